-- SPDX-License-Identifier: MIT
-- The types of declared args: each reads a value, given as JSON or as text, into what a handler
-- or a task gets. A reader takes (value, field, json) and returns what it read, or nil and what
-- was wanted. `field` is the compiled declaration; `json` knows arrays and null.

local form = require "exed.schema.form"
local names = require "exed.inventory.names"
local words = require "exed.words"

local types = {}

local MAX_SECONDS = 1000000000 -- about 31 years; a longer duration is a mistake
local MAX_ITEMS = 250000 -- of a list; more take longer to read than a request may
local MAX_ITEM = 65536 -- bytes of one target, which may be a pattern of many names
-- As in exed.conf.
local UNITS = { [""] = 1, ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, w = 604800 }

-- Text that is safe to hand on: UTF-8 without NUL.
local function text(value)
  if type(value) ~= "string" then return nil, "text" end
  if value:find("\0", 1, true) then return nil, "text without NUL" end
  if not utf8.len(value) then return nil, "text in UTF-8" end
  return value
end

local function filled(value)
  local found, want = text(value)
  if found == "" then return nil, "text that is not empty" end
  return found, want
end

local function path(value)
  local found, want = text(value)
  if not found then return nil, want end
  if not found:find "^/" then return nil, "an absolute path" end
  return found
end

local function url(value)
  local found, want = text(value)
  if not found then return nil, want end
  if not found:find "^[hH][tT][tT][pP][sS]?://[^/%s%c][^%s%c]*$" then
    return nil, "a URL that begins with http:// or https://"
  end
  return found
end

local function integer(value)
  if type(value) == "string" and not value:find "^[+-]?%d+$" then return nil, "a whole number" end
  local number = tonumber(value)
  local found = number and type(value) ~= "boolean" and math.tointeger(number)
  if not found then return nil, "a whole number of at most 64 bits" end
  return found
end

local function number(value)
  local want = "a number"
  if type(value) == "string" then
    if not value:find "^[+-]?%d*%.?%d*[eE]?[+-]?%d*$" then return nil, want end
    value = tonumber((value:gsub("^%+", "")))
  end
  if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then
    return nil, want
  end
  return value
end

local BOOLEANS = { ["1"] = true, ["true"] = true, yes = true }
for _, word in ipairs { "0", "false", "no" } do BOOLEANS[word] = false end

local function boolean(value)
  if type(value) == "boolean" then return value end
  local known
  if type(value) == "string" then known = BOOLEANS[value:lower()] end
  if math.type(value) == "integer" then known = BOOLEANS[tostring(value)] end
  if known == nil then return nil, "a boolean: true, 1, yes, false, 0 or no" end
  return known
end

local function count(value)
  local want = "a count: a whole number such as 3, or a percentage such as 10%"
  if type(value) == "string" then
    local percent = value:match "^(%d+)%%$"
    if percent then
      if #percent > 3 or tonumber(percent) > 100 then return nil, "at most 100%" end
      return tonumber(percent) .. "%"
    end
  end
  local found = integer(value)
  if not found or found < 0 then return nil, want end
  return found
end

local function duration(value)
  local want = "a duration such as 90, 500ms, 90s, 5m, 4h or 2d"
  local seconds
  if type(value) == "string" then
    local digits, unit = value:match "^(%d+%.?%d*)%s*(%a*)$"
    local factor = UNITS[(unit or "?"):lower()]
    if not factor then return nil, want end
    seconds = tonumber(digits) * factor
  elseif type(value) == "number" then
    seconds = value
  end
  if not seconds or seconds ~= seconds or seconds < 0 then return nil, want end
  if seconds > MAX_SECONDS then
    return nil, ("a duration of at most %d seconds"):format(MAX_SECONDS)
  end
  return math.tointeger(seconds) or seconds
end

-- A choice may be among numbers: 2 and "2" are the same.
local function choice(value, field)
  if math.type(value) == "integer" then value = tostring(value) end
  for _, known in ipairs(field.of) do
    if value == known then return value end
  end
  local hint = type(value) == "string" and words.hint(value, field.of) or ""
  return nil, "one of " .. table.concat(field.of, ", "), hint
end

-- The parts of a comma list, blanks trimmed, empty ones left out. Goes on to one too many only.
local function comma_parts(value, into)
  for part in words.parts(value) do
    if #into > MAX_ITEMS then break end
    local trimmed = part:match "^%s*(.-)%s*$"
    if trimmed ~= "" then into[#into + 1] = trimmed end
  end
  return into
end

-- Marks a list that was joined from a repeated parameter, so that it is known for a list.
local JOINED = {}
function types.joined(items) return setmetatable(items, JOINED) end

-- The raw items of a list given in any form; nil when it is no list.
local function raw_items(value, json)
  if type(value) == "string" then
    local decoded = value:find "^%s*%[" and json.decode and json.decode(value)
    if type(decoded) == "table" and json.is_array(decoded) then return decoded end
    return comma_parts(value, {})
  end
  if type(value) ~= "table" then return nil end
  local is_list = getmetatable(value) == JOINED or next(value) == nil or json.is_array(value)
  return is_list and value or nil
end

local function list(value, field, json)
  local raw = raw_items(value, json)
  if not raw then return nil, "a list" end
  if #raw > MAX_ITEMS then return nil, ("a list of at most %d items"):format(MAX_ITEMS) end
  local found = {}
  for i, item in ipairs(raw) do
    local read, want, hint, at_fault = types.read(field.item, item, json)
    if read == nil then
      if at_fault == nil then at_fault = item end
      return nil, ("%s as item %d"):format(want, i), hint, at_fault
    end
    found[i] = read
  end
  return found
end

local function object(value, _, json)
  if type(value) == "string" and json.decode then
    value = json.decode(value)
  end
  if type(value) ~= "table" or json.is_array(value) then return nil, "a JSON object" end
  return value
end

local function host(value)
  local found, want = text(value)
  if not found then return nil, want end
  local trimmed = found:match "^%s*(.-)%s*$"
  local ok, problem = names.check_host(trimmed)
  if not ok then return nil, "the name of a host (" .. problem .. ")" end
  return trimmed
end

-- Whether a target is one name, as it mostly is: nothing in it is to be read.
local function is_plain(value)
  return type(value) == "string" and #value <= MAX_ITEM and value:find "^[%w._-]+$"
end

-- Targets: a pattern, a comma list, or a list of them; read into a list of patterns.
local function hosts(value, _, json)
  if is_plain(value) then return { value } end
  local raw = raw_items(value, json)
  if not raw then return nil, "a host, a pattern or a list of them" end
  local found = {}
  for i, item in ipairs(raw) do
    if is_plain(item) then
      found[#found + 1] = item
    else
      local part, want = text(item)
      if not part then return nil, ("%s as item %d"):format(want, i), nil, item end
      comma_parts(part, found)
    end
    if #found > MAX_ITEMS then return nil, ("at most %d targets"):format(MAX_ITEMS) end
  end
  for i, part in ipairs(found) do
    if #part > MAX_ITEM then
      return nil, ("at most %d bytes long as item %d"):format(MAX_ITEM, i)
    end
  end
  return found
end

types.readers = {
  string = text, path = path, url = url, command = filled, integer = integer, number = number,
  boolean = boolean, count = count, duration = duration, choice = choice, list = list,
  object = object, host = host, hosts = hosts,
}

-- What min and max measure of a value, and the word for it in a message.
local function size_of(kind, value)
  if kind == "list" or kind == "hosts" then return #value, "items" end
  if type(value) == "number" then return value, "" end
  if kind == "count" or type(value) ~= "string" then return nil end
  return utf8.len(value), "characters"
end

local function in_bounds(field, value)
  local size, unit = size_of(field.type, value)
  if not size then return true end
  unit = unit == "" and "" or " " .. unit
  if field.min and size < field.min then return nil, ("at least %s%s"):format(field.min, unit) end
  if field.max and size > field.max then return nil, ("at most %s%s"):format(field.max, unit) end
  return true
end

local function want_form(pattern)
  local words_of = form.describe(pattern)
  return words_of and "text of " .. words_of or "text of the form " .. pattern
end

-- Reads a value by its field. Returns what was read, or nil, what was wanted, a hint, and the item
-- of a list that is at fault.
function types.read(field, value, json)
  local found, want, hint, at_fault = types.readers[field.type](value, field, json)
  if found == nil then return nil, want, hint, at_fault end
  local ok, bound = in_bounds(field, found)
  if not ok then return nil, bound end
  if field.match and type(found) == "string" then
    local from, to = found:find(field.match)
    if from ~= 1 or to ~= #found then return nil, want_form(field.match) end
  end
  return found
end

return types
