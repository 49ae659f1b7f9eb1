-- SPDX-License-Identifier: MIT
-- What `exed-run FILE.lua ...` runs: the file, with its own arguments. What it deferred by
-- job:defer is run at its end, however that came. A file that returns a task is run as one.

local syntax = require "exed.task.syntax"

local argv = { ... }
local path = table.remove(argv, 1)

-- As the verb task does, with the file in place of a name.
local function run_task()
  local main = package.searchpath("exed.cli.main", package.path)
  return assert(loadfile(main))(path, table.unpack(argv))
end

-- Whether the text ends with `return { summary = ..., run = ... }`: such a file is not run before.
local function is_task(text)
  local s = syntax.new(text)
  for i, token in ipairs(s.list) do
    if s:is(i, "return") and not token.block and s:is(i + 1, "{") then
      local first, last = i + 1, s.list[i + 1].close or #s.list
      local found = {}
      for j = first, last do
        local is_field = s:is(j + 1, "=") and (s:is(j - 1, "{") or s:is(j - 1, ",")
          or s:is(j - 1, ";"))
        if is_field and not s.list[j].block then found[s.list[j].text] = true end
      end
      return found.summary and found.run
    end
  end
end

local function read()
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

local chunk, problem = loadfile(path, "t")
if not chunk then
  io.stderr:write("exed-run: ", problem, "\n")
  return 2
end
if is_task(read() or "") then return run_task() end
rawset(_G, "arg", table.move(argv, 1, #argv, 1, { [0] = path }))

local found = table.pack(xpcall(chunk, function(err)
  return type(err) == "table" and err or debug.traceback(tostring(err), 2)
end, table.unpack(argv)))

local script = package.loaded["exed.script"]
local code = script and script.finish() or 0
if not found[1] then
  local err = found[2]
  io.stderr:write(type(err) == "table" and tostring(err.message or err) or err, "\n")
  return code ~= 0 and code or 1
end
if type(found[2]) == "table" and type(found[2].run) == "function" and found[2].summary then
  return run_task()
end
return math.type(found[2]) == "integer" and found[2] or code
