-- SPDX-License-Identifier: MIT
-- Declared fields, as schema.describe and tasks tell them, in the API document: JSON schemas of
-- bodies and the parameters of queries.

local json = require "exed.json"

local fields = {}

-- ---- patterns -----------------------------------------------------------------------------------

local CLASSES <const> = {
  w = "A-Za-z0-9", d = "0-9", a = "A-Za-z", x = "0-9A-Fa-f", l = "a-z", u = "A-Z", s = "\\s",
}

-- One item of a Lua pattern at `at`: what it is in ECMAScript, and the place after it; nil when
-- there is no such thing.
local function one_item(pattern, at, in_set)
  local letter = pattern:sub(at, at)
  if letter == "%" then
    local escaped = pattern:sub(at + 1, at + 1)
    if CLASSES[escaped] then
      return in_set and CLASSES[escaped] or "[" .. CLASSES[escaped] .. "]", at + 2
    end
    if escaped == "" or escaped:find "%w" then return nil end
    return "\\" .. escaped, at + 2
  end
  if in_set then
    local last = pattern:sub(at + 1, at + 1) == "]"
    return letter == "-" and last and "\\-" or letter:gsub("[\\[]", "\\%0"), at + 1
  end
  if letter == "-" then return "*?", at + 1 end
  return (letter:gsub("[\\{}|/]", "\\%0")), at + 1
end

-- A Lua pattern that a whole text must fit, in ECMAScript's form; nil when it cannot be said there.
function fields.pattern(pattern)
  local out, at, in_set = {}, 1, false
  local text = pattern:gsub("^%^", "")
  text = text:gsub("([^%%])%$$", "%1")
  while at <= #text do
    local letter = text:sub(at, at)
    local first = not in_set and letter == "["
    if in_set and letter == "]" then in_set = false end
    local item, after = letter, at + 1
    if first then
      in_set = true
      if text:sub(at + 1, at + 1) == "^" then item, after = "[^", at + 2 end
    elseif letter ~= "]" then
      item, after = one_item(text, at, in_set)
    end
    if not item then return nil end
    out[#out + 1], at = item, after
  end
  return "^(?:" .. table.concat(out) .. ")$"
end

-- ---- schemas ------------------------------------------------------------------------------------

local kinds = {}

local function text(field)
  return {
    type = "string", minLength = field.min, maxLength = field.max,
    pattern = field.match and fields.pattern(field.match),
  }
end

kinds.string, kinds.host = text, text

function kinds.path(field)
  local found = text(field)
  found.pattern = found.pattern or "^/"
  return found
end

function kinds.url(field)
  local found = text(field)
  found.format = "uri"
  return found
end

function kinds.command(field)
  local found = text(field)
  found.minLength = found.minLength or 1
  return found
end

function kinds.integer(field)
  return { type = "integer", minimum = field.min, maximum = field.max }
end

function kinds.number(field)
  return { type = "number", minimum = field.min, maximum = field.max }
end

function kinds.boolean() return { type = "boolean" } end

function kinds.object() return { type = "object" } end

function kinds.count(field)
  return { anyOf = json.array {
    { type = "integer", minimum = field.min or 0, maximum = field.max },
    { type = "string", pattern = "^[0-9]+%?$" },
  } }
end

function kinds.duration(field)
  return { anyOf = json.array {
    { type = "number", minimum = field.min or 0, maximum = field.max },
    { type = "string", pattern = "^[0-9]+(\\.[0-9]*)?\\s*([mM]?[sS]|[mMhHdDwW])?$" },
  } }
end

-- One that looks like a number may be given as one.
function kinds.choice(field)
  local values = {}
  for _, value in ipairs(field.of) do
    values[#values + 1] = value
    values[#values + 1] = value:find "^%d+$" and math.tointeger(tonumber(value)) or nil
  end
  return { enum = json.array(values) }
end

function kinds.list(field)
  return { anyOf = json.array {
    {
      type = "array", items = field.items and fields.schema(field.items) or { type = "string" },
      minItems = field.min, maxItems = field.max,
    },
    { type = "string" },
  } }
end

function kinds.hosts(field)
  return { anyOf = json.array {
    { type = "array", items = { type = "string" }, minItems = field.min, maxItems = field.max },
    { type = "string" },
  } }
end

local function default_of(field)
  local default = field.default
  if field.secret or type(default) == "table" and next(default) == nil then return nil end
  return default
end

-- The schema of one field; a secret is only written, never shown.
function fields.schema(field)
  local found = kinds[field.type](field)
  found.description = field.help
  found.default = default_of(field)
  if type(found.default) == "table" and field.type ~= "object" then
    found.default = json.array(found.default)
  end
  if field.secret then found.writeOnly = true end
  return found
end

-- A field's aliases have its schema; one of the names must be given.
local function add_names(field, properties, needed)
  local names = { field.name, table.unpack(field.aliases or {}) }
  for _, name in ipairs(names) do properties[name] = fields.schema(field) end
  if not field.required then return end
  local wanted = {}
  for i, name in ipairs(names) do wanted[i] = { required = json.array { name } } end
  needed[#needed + 1] = #wanted == 1 and wanted[1] or { anyOf = json.array(wanted) }
end

-- The schema of an object with these fields and no others.
function fields.object(list)
  local properties, needed = {}, {}
  for _, field in ipairs(list) do add_names(field, properties, needed) end
  return {
    type = "object", properties = properties, additionalProperties = false,
    allOf = #needed > 0 and json.array(needed) or nil,
  }
end

-- Adds the fields of a query to a list of parameters. Of a field with an alias none is required,
-- since either may be given.
function fields.add_parameters(list, described)
  for _, field in ipairs(described) do
    local many = field.type == "hosts" or field.type == "list"
    for _, name in ipairs { field.name, table.unpack(field.aliases or {}) } do
      local found = fields.schema(field)
      if many then found = { type = "array", items = found.anyOf[1].items } end
      found.description = nil
      list[#list + 1] = {
        name = name, ["in"] = "query", required = field.required and not field.aliases,
        description = field.help, schema = found, style = "form", explode = many,
      }
    end
  end
end

return fields
