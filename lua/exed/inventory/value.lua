-- SPDX-License-Identifier: MIT
-- What lists and nulls look like in inventory variables. The node replaces both by those of its
-- JSON module (value.use), so that variables encode as they were written.

local value = {
  null = setmetatable({}, { __name = "inventory.null", __tostring = function() return "null" end }),
  array_mt = { __name = "json.array" },
}

local BLOCKED = { __name = "inventory.blocked" }

-- Stands for a value that cannot be read; `why` says so to people.
function value.blocked(why) return setmetatable({ why = why }, BLOCKED) end

-- Why a value cannot be read, or nil when it can.
function value.why_blocked(found)
  return type(found) == "table" and getmetatable(found) == BLOCKED and found.why or nil
end

-- Takes the JSON module (its `null` and its function `array`). Call it before the first load.
function value.use(json)
  value.null = json.null
  value.array_mt = getmetatable(json.array {})
end

-- Marks a table as a list, so that an empty one stays apart from an empty object.
function value.array(list)
  return setmetatable(list, value.array_mt)
end

return value
