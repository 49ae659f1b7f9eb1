-- SPDX-License-Identifier: MIT
-- exed-run --test: runs test files of tasks, on fake fleets, and of executors.

local config = require "exed.config"
local options = require "exed.cli.options"
local sys = require "exed.sys"
local test = require "exed.test"

local parser = options.compile {
  usage = { "exed-run --test [FILE...]" },
  about = "Runs test files (NAME_test.lua beside NAME.lua), which rehearse tasks on fake fleets "
    .. "with a virtual clock, or look at the plans of executors: no host is touched. Without a "
    .. "FILE all tests in tasks/ and executors/ of [runner] modules. The last line is `N passed, N "
    .. "failed`.",
  after = "Exit codes: 0 all passed, 1 some failed or there was none, 2 wrong usage.",
}

local function add_dir(list, dir)
  for _, name in ipairs(sys.list(dir) or {}) do
    if name:find "_test%.lua$" then list[#list + 1] = dir .. "/" .. name end
  end
end

local function find_files(given)
  local list = {}
  for _, path in ipairs(given) do
    local stat, err = sys.stat(path)
    if not stat then options.refuse("%s", err.message) end
    if stat.type == "directory" then add_dir(list, path) else list[#list + 1] = path end
  end
  if #given == 0 then
    add_dir(list, config.runner.modules .. "/tasks")
    add_dir(list, config.runner.modules .. "/executors")
  end
  return list
end

local function explain(err)
  if type(err) == "table" and err.message then return tostring(err.message) end
  return debug.traceback(tostring(err), 2)
end

-- Runs fn and counts it; returns whether it passed. quiet: only a failure counts.
local function count(counts, name, fn, quiet)
  local ok, trace = xpcall(fn, explain)
  if not ok then
    counts.failed = counts.failed + 1
    print(("FAILED %s\n  %s"):format(name, (trace:gsub("\n", "\n  "))))
  elseif not quiet then
    counts.passed = counts.passed + 1
  end
  return ok
end

-- Runs one file. What it requires may lie beside it. A file without cases is one itself.
local function run_file(counts, path)
  local cases, search = 0, package.path
  test.dir = path:match "^(.*)/[^/]*$" or "."
  package.path = test.dir .. "/?.lua;" .. search
  test.runner = function(name, fn)
    cases = cases + 1
    count(counts, ("%s: %s"):format(path, name), fn)
  end
  local ok = count(counts, path, function()
    local chunk, wrong = loadfile(path, "t")
    if not chunk then error({ message = wrong }, 0) end
    chunk(path)
  end, true)
  package.path, test.dir = search, nil
  if ok and cases == 0 then counts.passed = counts.passed + 1 end
end

local function run(argv)
  local counts = { passed = 0, failed = 0 }
  for _, path in ipairs(find_files(parser:parse(argv))) do run_file(counts, path) end
  print(("%d passed, %d failed"):format(counts.passed, counts.failed))
  return counts.failed == 0 and counts.passed > 0 and 0 or 1
end

return { summary = "run tests of tasks and executors", usage = parser.help, run = run }
