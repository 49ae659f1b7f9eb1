-- SPDX-License-Identifier: MIT
-- Rehearses tasks that are written inside a test.

local test = require "exed.test"

local support = {}

-- A fleet whose task `x` is this text; text may be a function that gives it, at each load. libs:
-- name -> text of the modules lib.NAME, and "task.NAME" -> text of other tasks.
function support.fleet(spec, text, libs)
  local fleet = test.fleet(spec)
  function fleet.sources(name)
    if libs and libs[name] then return libs[name], "tasks/" .. name .. ".lua" end
    if name ~= "task.x" then return nil, "no such file" end
    return type(text) == "function" and text() or text, "tasks/x.lua"
  end
  return fleet
end

-- A task of which only the body of run is given. Its first line is the first of the file.
function support.task(body, args)
  return ([[local each, http = require "exed.each", require "exed.http"; ]]
    .. [[local json = require "exed.json"; ]]
    .. [[local unused = { each, http, json }; ]]
    .. [[return { summary = "x", args = %s, run = function(job) %s end, max_hosts = unused[4] }]])
    :format(args or "{}", body)
end

-- What such a task returns; spec as for a fleet, or a fleet's.
function support.value(spec, body)
  local result = support.fleet(spec, support.task(body)):run "x"
  if result.error then error(result.error.message, 2) end
  return result.value
end

-- The message that such a task ends with.
function support.problem(spec, body)
  local result = support.fleet(spec, support.task(body)):run "x"
  return result.error and result.error.message or "ended well"
end

return support
