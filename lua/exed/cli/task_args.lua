-- SPDX-License-Identifier: MIT
-- The declared args of a task as options of a command line: flags, their checks, and help. An arg
-- `max_failed` is --max-failed (or --max_failed); a boolean is --name and --no-name; a secret is
-- read from a file that is named by --name-file, since others can see a command line.

local json = require "exed.json"
local options = require "exed.cli.options"
local text_file = require "exed.text_file"

local args = {}

local MAX_SECRET <const> = 65536 -- bytes of a secret's file

local JSON <const> = {
  decode = function(text) return (json.decode(text)) end,
  is_array = function(value)
    return type(value) == "table" and (getmetatable(value) or {}).__name == "json.array"
  end,
}

local function bounds(one)
  if one.min and one.max then return (", %s to %s"):format(one.min, one.max) end
  if one.min then return (", at least %s"):format(one.min) end
  if one.max then return (", at most %s"):format(one.max) end
  return ""
end

local VALUES <const> = {
  integer = "N", number = "N", duration = "TIME", count = "COUNT", host = "HOST",
  hosts = "PATTERN", list = "A,B,...", object = "JSON", string = "TEXT", url = "URL",
}

local function value_of(one)
  if one.type == "choice" then return table.concat(one.of, "|") end
  return VALUES[one.type] or one.type:upper()
end

local function shown_default(one)
  if one.required then return "required" end
  if one.default == nil or one.default == "" then return nil end
  if type(one.default) == "table" then return json.encode(one.default) end
  return tostring(one.default)
end

local function help_of(one)
  return (one.help or "of type " .. one.type) .. bounds(one)
end

-- Adds the options of one declared arg.
local function add(list, one)
  local long = one.name:gsub("_", "-")
  local alias = long ~= one.name and one.name or nil
  if one.secret then
    list[#list + 1] = {
      long .. "-file", arg = one.name, file = true, type = "string", value = "FILE",
      shown = one.required and "required" or nil, help = "a file with: " .. help_of(one),
    }
  elseif one.type == "boolean" then
    list[#list + 1] = {
      long, alias = alias, arg = one.name, help = help_of(one), set = { long, true },
    }
    list[#list + 1] = {
      "no-" .. long, help = "not so" .. (one.default == false and " (default)" or ""),
      set = { long, false },
    }
  else
    list[#list + 1] = {
      long, alias = alias, arg = one.name, type = one.type, min = one.min, max = one.max,
      match = one.match, of = one.of, item = one.items, json = JSON, value = value_of(one),
      shown = shown_default(one), help = help_of(one),
    }
  end
end

-- Options for described args (as GET /tasks has them): a list for options.compile, the required
-- ones first.
function args.options(described)
  local list, names = {}, {}
  for _, required in ipairs { true, false } do
    for _, one in ipairs(described) do
      if (one.required or false) == required then add(list, one) end
    end
  end
  for _, one in ipairs(list) do names[one[1]] = true end
  return list, names
end

local function read_file(name, path)
  local text, problem = text_file.read(path, MAX_SECRET)
  if not text then options.refuse("option --%s: %s", name, problem) end
  return (text:gsub("\r?\n$", ""))
end

-- What was given, by the names of the args. list: of args.options; given: what the parser found.
function args.values(list, given)
  local values = {}
  for _, one in ipairs(list) do
    local value = given[one[1]]
    if one.arg and value ~= nil then
      if one.file then value = read_file(one[1], value) end
      if one.type == "list" or one.type == "hosts" then value = json.array(value) end
      values[one.arg] = value
    elseif one.arg and one.shown == "required" then
      options.refuse("option --%s is missing: %s", one[1], one.help)
    end
  end
  return values
end

return args
