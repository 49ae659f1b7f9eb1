-- SPDX-License-Identifier: MIT
-- Checks a declaration of args and turns it into fields. A wrong declaration is a mistake of the
-- plugin's author: it raises a text that names the field.

local types = require "exed.schema.types"
local words = require "exed.words"

local OPTIONS = {
  required = "boolean", default = "any", min = "number", max = "number", match = "string",
  help = "string", secret = "boolean", message = "string", of = "any", alias = "any",
  missing = "string", first = "boolean",
}
local BOUNDED = {
  string = true, path = true, url = true, command = true, integer = true, number = true,
  count = true, duration = true, list = true, hosts = true, host = true,
}
local MATCHED = { string = true, path = true, url = true, command = true, host = true }
local TYPES = words.keys(types.readers)
local OPTION_NAMES = words.keys(OPTIONS)

local function wrong(name, text, ...)
  error(("field '%s': "):format(name) .. text:format(...), 0)
end

local function check_options(name, decl)
  for key, value in pairs(decl) do
    local want = OPTIONS[key]
    if key == 1 then
      want = nil
    elseif type(key) ~= "string" or not want then
      wrong(name, "unknown option %s%s", words.show(key), words.hint(key, OPTION_NAMES))
    end
    if want and want ~= "any" and type(value) ~= want then
      wrong(name, "%s must be a %s, got %s", key, want, words.show(value))
    end
  end
end

local function check_bounds(name, field)
  if (field.min or field.max) and not BOUNDED[field.type] then
    wrong(name, "min and max are not for the type %s", field.type)
  end
  if field.min and field.max and field.min > field.max then
    wrong(name, "min is larger than max")
  end
  if not field.match then return end
  if not MATCHED[field.type] then wrong(name, "match is not for the type %s", field.type) end
  local ok, problem = pcall(string.find, "", field.match)
  if not ok then wrong(name, "match is no Lua pattern: %s", problem) end
end

local function aliases_of(name, alias)
  local list = type(alias) == "table" and alias or { alias }
  for _, other in ipairs(list) do
    if type(other) ~= "string" or other == "" then
      wrong(name, "alias must be a name or a list of names")
    end
  end
  return list
end

local compile_field

local function check_of(name, field, of)
  if field.type == "choice" then
    if type(of) ~= "table" or #of == 0 then wrong(name, "a choice needs of = { \"a\", \"b\" }") end
    for _, known in ipairs(of) do
      if type(known) ~= "string" then wrong(name, "the items of a choice's `of` must be text") end
    end
    field.of = of
  elseif field.type == "list" then
    local item = of == nil and { "string" } or type(of) == "string" and { of } or of
    field.item = compile_field(name, item)
    if field.item.default ~= nil or field.item.required then
      wrong(name, "required and default are not for the items of a list")
    end
  elseif of ~= nil then
    wrong(name, "`of` is not for the type %s", field.type)
  end
end

-- The bounds of a duration may be written as one.
local function with_seconds(decl)
  if type(decl) ~= "table" or decl[1] ~= "duration" then return decl end
  local copy = {}
  for key, value in pairs(decl) do copy[key] = value end
  for _, bound in ipairs { "min", "max" } do
    if type(decl[bound]) == "string" then
      copy[bound] = types.readers.duration(decl[bound]) or decl[bound]
    end
  end
  return copy
end

function compile_field(name, decl)
  decl = with_seconds(decl)
  if type(decl) ~= "table" or type(decl[1]) ~= "string" then
    wrong(name, "must be written { TYPE, option = value, ... }")
  end
  if not types.readers[decl[1]] then
    wrong(name, "unknown type '%s'%s (%s)", decl[1], words.hint(decl[1], TYPES),
      table.concat(TYPES, ", "))
  end
  check_options(name, decl)
  local field = {
    name = name, type = decl[1], required = decl.required or false, min = decl.min,
    max = decl.max, match = decl.match, help = decl.help, secret = decl.secret or false,
    message = decl.message, missing = decl.missing, first = decl.first or false,
    aliases = aliases_of(name, decl.alias),
  }
  check_of(name, field, decl.of)
  check_bounds(name, field)
  if field.required and decl.default ~= nil then
    wrong(name, "required and default exclude each other")
  end
  return field
end

local function set_default(field, default, json)
  if default == nil then return end
  if type(default) == "table" and field.type ~= "object" then json = json.for_lists end
  local found, want = types.read(field, default, json)
  if found == nil then
    wrong(field.name, "the default %s is not %s", words.show(default), want)
  end
  field.default = found
end

-- Fields of a declaration: a list in the order in which they are checked (those with `first`
-- before the others, then by name), the same by name and alias, and all names for hints.
local function declare(decl, json)
  if type(decl) ~= "table" then error("a declaration of args must be a table", 0) end
  local fields, by_name = {}, {}
  for key in pairs(decl) do
    if type(key) ~= "string" or not key:find "^[%a_][%w_-]*$" then
      error(("the name of a field must be a word, got %s"):format(words.show(key)), 0)
    end
  end
  for _, name in ipairs(words.keys(decl)) do
    local field = compile_field(name, decl[name])
    set_default(field, decl[name].default, json)
    fields[#fields + 1] = field
  end
  for _, field in ipairs(fields) do by_name[field.name] = field end
  for _, field in ipairs(fields) do
    for _, alias in ipairs(field.aliases) do
      if by_name[alias] then wrong(field.name, "the alias '%s' is another field", alias) end
      by_name[alias] = field
    end
  end
  table.sort(fields, function(a, b)
    if a.first ~= b.first then return a.first end
    return a.name < b.name
  end)
  return fields, by_name, words.keys(by_name)
end

return declare
