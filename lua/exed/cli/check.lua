-- SPDX-License-Identifier: MIT
-- exed-run --check: loads plugin files as exed would, and warns of what does not survive a resume.

local files = require "exed.tasks.files"
local lint = require "exed.task.lint"
local options = require "exed.cli.options"
local output = require "exed.cli.output"
local plugins = require "exed.plugins"

local parser = options.compile {
  usage = { "exed-run --check [OPTION...] FILE..." },
  about = "Loads files of tasks, of tasks/lib, of executors and handlers as exed does, each in a "
    .. "sandbox, and says what is wrong with file and line. Of tasks it also warns of what does "
    .. "something else when the task is resumed, and of answers that nobody looks at. A comment "
    .. "`check: ok` on a line silences its warnings.",
  { "strict", help = "warnings count as errors" },
  after = "Exit codes: 0 all load, 1 one does not (with --strict: or has a warning), 2 wrong "
    .. "usage.",
}

-- What kind of plugin a text says that it is.
local function kind_of(file)
  if file.text:find "%f[%w]type%s*=%s*[\"']executor[\"']" then return "executor" end
  if file.text:find "%f[%w]type%s*=%s*[\"']handler[\"']" then return "handler" end
  if file.name:find "_test$" then return "test" end
  if file.dir:find "%f[^/%z]lib%f[%z/]" then return "lib" end
  return "task"
end

-- Returns whether it loads, or false and why not.
local function try(file, kind)
  if kind == "test" then return load(file.text, "@" .. file.path, "t") end
  if kind == "lib" then return files.load_lib(file) end
  if kind == "task" then
    local described, wrong = files.describe(file)
    return described ~= nil, wrong
  end
  local found, wrong = plugins.load(file.path, kind, file.name, file.dir:match "[^/]*$")
  return found ~= nil, wrong
end

-- Checks one file; returns errors and warnings.
local function check(out, path)
  local file, err = files.open(path)
  if not file then
    out:complain(err.message .. "\n")
    return 1, 0
  end
  local kind = kind_of(file)
  local ok, wrong = try(file, kind)
  if not ok then
    out:complain(wrong .. "\n")
    return 1, 0
  end
  local found = (kind == "task" or kind == "lib") and lint.check(file.text) or {}
  for _, one in ipairs(found) do
    out:complain(("%s:%d: warning: %s\n"):format(path, one.line, one.text))
  end
  return 0, #found
end

local function run(argv)
  local given = parser:parse(argv)
  if #given == 0 then options.refuse "which files?" end
  local out, errors, warnings = output.new(), 0, 0
  for _, path in ipairs(given) do
    local wrong, odd = check(out, path)
    errors, warnings = errors + wrong, warnings + odd
    out:flush()
  end
  out:note("%d %s: %d errors, %d warnings", #given, #given == 1 and "file" or "files", errors,
    warnings)
  out:flush()
  return (errors > 0 or given.strict and warnings > 0) and 1 or 0
end

return { summary = "load plugin files, and say what is wrong", usage = parser.help, run = run }
