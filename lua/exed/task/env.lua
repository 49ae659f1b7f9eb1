-- SPDX-License-Identifier: MIT
-- The environment that a task's file runs in: the language, in the form that does the same in every
-- process, and the modules that stand on effects.

local same = require "exed.task.same"
local sandbox = require "exed.sandbox"

local env = {}

local FILES <const> = "a task has no files; what it needs comes in job.args"
env.instead = {
  io = FILES, debug = "it is not there for tasks", package = "use require",
  dofile = "use require \"lib.NAME\"", loadfile = "use require \"lib.NAME\"",
  collectgarbage = "when memory is freed differs on a resume",
  ["os.time"] = "use job:now()", ["os.clock"] = "use job:now()", ["os.date"] = "use job:now()",
  ["os.difftime"] = "subtract two values of job:now()",
  ["os.getenv"] = "declare an argument and use job.args",
  ["os.execute"] = "use job.node:execute or host:execute", ["os.exit"] = "use job:abort(reason)",
  ["os.remove"] = FILES, ["os.rename"] = FILES, ["os.tmpname"] = FILES,
  ["os.setlocale"] = "it is not there for tasks",
  ["math.random"] = "use job:random()", ["math.randomseed"] = "use job:random()",
  ["string.dump"] = "bytecode is not loaded anyway",
}

-- A new environment. modules: name -> value of those that may be required; load_lib(name) gives
-- the table of `require "lib.NAME"`, or raises; print(text).
function env.new(modules, load_lib, print_text)
  local function task_require(name)
    if type(name) ~= "string" then error("require wants the name of a module", 2) end
    if modules[name] then return modules[name] end
    if name:find "^lib%.[%w_][%w_.]*$" then return load_lib(name) end
    error(("module '%s' is not there for tasks: exed.each, exed.http, exed.json, lib.NAME")
      :format(name), 2)
  end
  return sandbox.new {
    kind = "tasks", instead = env.instead, require = task_require, no_weak = true,
    print = function(...)
      local parts = table.pack(...)
      for i = 1, parts.n do parts[i] = same.tostring(parts[i]) end
      print_text(table.concat(parts, "\t"))
    end,
    globals = { pairs = same.pairs, next = same.next, tostring = same.tostring },
    library = { table = { sort = same.sort }, string = { format = same.format } },
  }
end

return env
