-- SPDX-License-Identifier: MIT
-- What `exed-run FILE.lua ...` runs: the file, with its own arguments. What it deferred by
-- job:defer is run at its end, however that came.

local argv = { ... }
local path = table.remove(argv, 1)

local chunk, problem = loadfile(path, "t")
if not chunk then
  io.stderr:write("exed-run: ", problem, "\n")
  return 2
end
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
return math.type(found[2]) == "integer" and found[2] or code
