-- SPDX-License-Identifier: MIT
-- Counts (3 or "10%") as numbers of hosts, and options of functions, checked by declared args.

local fail = require "exed.task.fail"
local schema = require "exed.schema"

local counts = {}

-- A count of `all`; a percentage is rounded up.
function counts.up(count, all)
  if math.type(count) == "integer" then return count end
  return (all * math.tointeger(tonumber(count:sub(1, -2))) + 99) // 100
end

-- The same, rounded down.
function counts.down(count, all)
  if math.type(count) == "integer" then return count end
  return all * math.tointeger(tonumber(count:sub(1, -2))) // 100
end

local defaults = {} -- checker -> what it makes of no options, once it was asked

-- Checks the options that an author gave to `what` by a compiled declaration; wrong ones raise
-- with his file and line. What it returns is not to be changed.
function counts.options(checker, given, what)
  local none = given == nil or type(given) == "table" and next(given) == nil
  if none and defaults[checker] then return defaults[checker] end
  if given ~= nil and type(given) ~= "table" then
    fail.usage("%s: options are a table, got %s", what, type(given))
  end
  local found, err = checker:check(given or {}, "json")
  if not found then fail.usage("%s: %s", what, err.message) end
  if none then defaults[checker] = found end
  return found
end

-- Seconds of a duration that is no option.
function counts.seconds(value, what)
  local seconds, want = schema.duration(value)
  if not seconds then fail.usage("%s wants %s", what, want) end
  return seconds
end

return counts
