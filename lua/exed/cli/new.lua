-- SPDX-License-Identifier: MIT
-- exed-run --new: a task to begin with, and its test.

local config = require "exed.config"
local options = require "exed.cli.options"
local proc = require "exed.proc"
local sys = require "exed.sys"

local parser = options.compile {
  usage = { "exed-run --new [OPTION...] NAME" },
  about = "Writes NAME.lua, a task that works, and NAME_test.lua, a test that passes, to be "
    .. "changed into yours. What is there already is not touched.",
  { "dir", "d", type = "string", value = "DIR", shown = "tasks/ in [runner] modules",
    help = "where to" },
}

local TASK <const> = [[
-- NAME: when it is used, and what it leaves behind.
local each = require "exed.each"

return {
  summary = "one line that says what NAME does",
  args = {
    command = { "command", default = "uptime", help = "what to run on each host" },
    size = { "count", default = "10%", help = "hosts at once" },
    max_failed = { "count", default = 0, help = "stop when more hosts than this have failed" },
  },
  run = function(job)
    local args = job.args
    each.window(job.hosts, {
      size = args.size, max_failed = args.max_failed, canary = 1,
    }, function(host)
      -- What must be put back is registered before it is taken away.
      job:defer(function() host:execute("true", { step = "restore" }) end)
      host:execute("true", { step = "drain" })
      host:execute(args.command, { step = "work", timeout = "5m" })
    end)
  end,
}
]]

local TEST <const> = [[
-- Run by: exed-run --test DIR/NAME_test.lua
local test = require "exed.test"

-- How many times each host was drained and not put back.
local function left_drained(result)
  local left = 0
  for _, step in ipairs(result.steps) do
    if step.step == "drain" then left = left + 1 end
    if step.step == "restore" then left = left - 1 end
  end
  return left
end

test.case("every host is done and put back", function()
  local fleet = test.fleet { "web[01:12]" }
  local result = fleet:run("NAME", { args = { size = 3 } })
  assert(result.state == 0, result.error and result.error.message)
  assert(result.outcomes.web12.status == "CHANGED")
  assert(left_drained(result) == 0)
end)

test.case("the first failure stops it, and it survives the death of its node anywhere", function()
  local fleet = test.fleet { "web[01:12]" }
  fleet:answer { op = "execute", host = "web05", what = "uptime", status = "FAILED", rtc = 1 }
  fleet:survives("NAME", { args = { size = 1 } }, function(result)
    assert(result.outcomes.web05.status == "FAILED")
    assert(result.outcomes.web06.status == "SKIPPED")
    assert(left_drained(result) == 0)
  end)
end)
]]

local function write(path, template, values)
  local file, problem = io.open(path, "w")
  if not file then error({ code = "failed", message = problem }, 0) end
  file:write((template:gsub("%u%u%u%u?", values)))
  local ok, wrong = file:close()
  if not ok then error({ code = "failed", message = ("%s: %s"):format(path, wrong) }, 0) end
  print(path)
end

local function make_dir(dir)
  local done, err = proc.run { argv = { "mkdir", "-p", "--", dir }, timeout = 10, max = 4096 }
  if done and done.code == 0 then return end
  error({
    code = "failed", message = done and done.stderr:match "[^\n]*" or err.message,
  }, 0)
end

local function run(argv)
  local given = parser:parse(argv)
  local name = given[1]
  if #given ~= 1 then options.refuse("one name is wanted, %d words were given", #given) end
  if not name:find "^%a[%w_]*$" or name:find "_test$" then
    options.refuse("%q is no name of a task: letters, digits and _, not _test at its end", name)
  end
  local dir = given.dir or config.runner.modules .. "/tasks"
  local paths = { ("%s/%s.lua"):format(dir, name), ("%s/%s_test.lua"):format(dir, name) }
  for _, path in ipairs(paths) do
    if sys.stat(path) then options.refuse("%s is there already", path) end
  end
  make_dir(dir)
  local values = { NAME = name, DIR = dir }
  write(paths[1], TASK, values)
  write(paths[2], TEST, values)
  return 0
end

return { summary = "write a task to begin with, and its test", usage = parser.help, run = run }
