-- SPDX-License-Identifier: MIT
-- Declared args: one declaration validates queries and bodies and is shown in help and API
-- documents.
--
--   local checker = schema.compile { size = { "count", default = "10%", help = "hosts at once" } }
--   local args, err = checker:check(input, "json")
--
-- A checker's `needs_some` says whether any field is required.
--
-- Types: string, path, url, command, integer, number, boolean, count, duration, choice, list,
-- object, host, hosts. Options: required, default, min, max (value, length or number of items),
-- match (a Lua pattern for the whole text), help, secret (the value is in no message), of (items
-- of a choice; type of a list's items, as TYPE or { TYPE, ... }), alias (another name, or a list
-- of names), message (the text of every error of this field), missing (the text when it is not
-- given or empty), first (checked before the others).

local declare = require "exed.schema.declare"
local types = require "exed.schema.types"
local words = require "exed.words"

local schema = {}

local checker = {}
checker.__index = checker
checker.__name = "schema"

-- How JSON values look. The node sets this to its JSON module, of which these are used:
--   is_array(table) -> boolean    null    decode(text) -> value, or nil
schema.json = {
  null = nil,
  is_array = function(found)
    local meta = getmetatable(found)
    return type(meta) == "table" and meta.__name == "json.array" or #found > 0
  end,
}

-- Defaults in a declaration are plain Lua lists.
local IN_LUA = {
  is_array = function(found) return type(found) ~= "table" or next(found) == nil or #found > 0 end,
}

-- Compiles a declaration; raises a text that names the field when it is wrong.
-- options.extra = true: fields that are not declared are left out instead of refused;
-- options.lua = true: what is checked is written in Lua, where a list is a plain table.
function schema.compile(decl, options)
  local json = { is_array = schema.json.is_array, for_lists = IN_LUA }
  local fields, by_name, known = declare(decl, json)
  local needs, needs_some = {}, false -- fields that count when they are not given
  for _, field in ipairs(fields) do
    if field.required or field.default ~= nil then needs[#needs + 1] = field end
    needs_some = needs_some or field.required
  end
  return setmetatable({
    fields = fields, by_name = by_name, known = known, extra = options and options.extra or false,
    json = options and options.lua and IN_LUA or nil, needs_some = needs_some,
    needs = needs,
  }, checker)
end

local function refuse(field, name, text)
  return nil, { code = "bad_request", field = name, message = field and field.message or text }
end

local function is_null(value) return value == nil or value == schema.json.null end

-- The given value of a field under its name or an alias, and the name it came under.
local function given(field, input)
  local value, name = input[field.name], field.name
  if is_null(value) then value = nil end
  for i = 1, #field.aliases do
    local alias = field.aliases[i]
    local other = input[alias]
    if not is_null(other) then
      if value ~= nil then
        return nil, alias, ("'%s' and '%s' are the same field, give one"):format(name, alias)
      end
      value, name = other, alias
    end
  end
  return value, name
end

-- In a query a parameter may be repeated: its values are then a list.
local function from_text(field, value, name)
  if type(value) ~= "table" then return value end
  if #value <= 1 then return value[1] end
  if field.type ~= "list" and field.type ~= "hosts" then
    return nil, ("'%s' is given %d times, give it once"):format(name, #value)
  end
  local parts = {}
  for _, item in ipairs(value) do
    local decoded = item:find "^%s*%[" and schema.json.decode and schema.json.decode(item)
    if type(decoded) == "table" and schema.json.is_array(decoded) then
      table.move(decoded, 1, #decoded, #parts + 1, parts)
    else
      for part in words.parts(item) do parts[#parts + 1] = part:match "^%s*(.-)%s*$" end
    end
  end
  return types.joined(parts)
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local new = {}
  for key, item in pairs(value) do new[key] = copy(item) end
  return setmetatable(new, getmetatable(value))
end

local function is_empty(field, found)
  return field.required and (field.type == "hosts" or field.type == "list") and #found == 0
end

local function check_field(field, input, kind, json)
  local value, name, twice = given(field, input)
  if twice then return refuse(field, name, twice) end
  if kind == "text" then
    local single, problem = from_text(field, value, name)
    if problem then return refuse(field, name, problem) end
    value = single
  end
  if value == nil then
    if field.required then
      return refuse(field, name, field.missing or ("'%s' is missing"):format(name))
    end
    return copy(field.default)
  end
  local found, want, hint, at_fault = types.read(field, value, json or schema.json)
  if found == nil then
    if at_fault == nil then at_fault = value end
    local got = field.secret and "another value" or words.show(at_fault)
    local text = ("'%s' must be %s, got %s%s"):format(name, want, got, hint or "")
    return refuse(field, name, text)
  end
  if is_empty(field, found) then
    return refuse(field, name, field.missing or ("'%s' is empty"):format(name))
  end
  return found
end

local function check_unknown(self, input)
  local unknown = {}
  for name, value in pairs(input) do
    if not self.by_name[name] and value ~= nil then unknown[#unknown + 1] = tostring(name) end
  end
  if #unknown == 0 then return true end
  table.sort(unknown)
  local name = unknown[1]
  local hint = words.hint(name, self.known)
  if hint == "" then
    hint = #self.known > 0 and " (known: " .. table.concat(self.known, ", ") .. ")"
      or " (none is known)"
  end
  return refuse(nil, name, ("unknown field %s%s"):format(words.show(name), hint))
end

local function is_list(input, json)
  if json then return #input > 0 end
  return schema.json.is_array(input)
end

local function check_input(input, kind, json)
  if kind ~= "json" and kind ~= "text" then error("kind must be 'json' or 'text'", 3) end
  if type(input) ~= "table" or (kind == "json" and is_list(input, json)) then
    return refuse(nil, nil, "a JSON object is wanted")
  end
  return true
end

-- Reads what is given, in no order: right for all that has no mistake in it, which is nearly all,
-- and takes no time for what is not given. nil when there is one: `thorough` then finds out which
-- mistake is told first.
local function quick(self, input, kind, ready)
  -- Room for a few: a table that grows field by field is made anew several times.
  local values = { a = nil, b = nil, c = nil, d = nil }
  for name, value in pairs(input) do
    local field = self.by_name[name]
    if field then
      if is_null(value) or values[field.name] ~= nil then return nil end
      local found, problem = ready[field.name], nil
      if found == nil then found, problem = check_field(field, input, kind, self.json) end
      if problem then return nil end
      values[field.name] = found
    elseif not self.extra then
      return nil
    end
  end
  for i = 1, #self.needs do
    local field = self.needs[i]
    if values[field.name] == nil then
      if field.required then return nil end
      local default = field.default
      values[field.name] = type(default) == "table" and copy(default) or default
    end
  end
  return values
end

local function thorough(self, input, kind)
  local values, checked_names = {}, self.extra
  local err
  for _, field in ipairs(self.fields) do
    if not field.first and not checked_names then
      checked_names, err = check_unknown(self, input)
      if not checked_names then return nil, err end
    end
    local found, problem = check_field(field, input, kind, self.json)
    if problem then return nil, problem end
    values[field.name] = found
  end
  if not checked_names then
    checked_names, err = check_unknown(self, input)
    if not checked_names then return nil, err end
  end
  return values
end

local NOTHING <const> = {}

-- Checks a decoded JSON body (kind "json") or the parameters of a query or command line (kind
-- "text": name -> text, or a list of texts when repeated). Returns a new table of values, absent
-- fields being nil or their default; or nil and { code = "bad_request", field, message }.
-- A JSON null is as if the field were not there. ready: name -> what checker:field has read.
function checker:check(input, kind, ready)
  local ok, err = check_input(input, kind, self.json)
  if not ok then return nil, err end
  local values = quick(self, input, kind, ready or NOTHING)
  if values then return values end
  return thorough(self, input, kind)
end

-- Checks one field alone, for a handler that must judge it before the others. Returns its value
-- (nil when it was not given), or nil and the error.
function checker:field(name, input, kind)
  local field = self.by_name[name] or error(("no field '%s' is declared"):format(name), 2)
  local ok, err = check_input(input, kind, self.json)
  if not ok then return nil, err end
  return check_field(field, input, kind, self.json)
end

local function shown_default(field)
  if field.secret and field.default ~= nil then return "***" end
  return copy(field.default)
end

local function describe_field(field)
  return {
    name = field.name, type = field.type, required = field.required, min = field.min,
    max = field.max, match = field.match, help = field.help, secret = field.secret,
    of = copy(field.of),
    items = field.item and describe_field(field.item) or nil,
    aliases = #field.aliases > 0 and copy(field.aliases) or nil,
    default = shown_default(field),
  }
end

-- What a checker wants, as plain data in the order of names, for help and API documents.
function schema.describe(self)
  local list = {}
  for i, field in ipairs(self.fields) do list[i] = describe_field(field) end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Reads a duration (90, "500ms", "90s", "5m", "4h", "2d") into seconds; nil and what is wanted.
function schema.duration(value) return types.readers.duration(value) end

-- Reads a count (3, "3", "10%") into an integer or the percentage as text; nil and what is wanted.
function schema.count(value) return types.readers.count(value) end

return schema
