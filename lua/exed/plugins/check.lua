-- SPDX-License-Identifier: MIT
-- Checks the table that a plugin's file returned: the fields that its kind has, and their types.
-- Raises a text that names the field. An executor's settings are compiled, too: its `declared`.

local schema = require "exed.schema"
local shapes = require "exed.api.shapes"
local words = require "exed.words"

local check = {}

local FIELDS <const> = {
  executor = {
    type = "string", summary = "string", settings = "table", check = "function",
    operations = "table",
  },
  handler = { type = "string", path = "string", dialect = "string", methods = "table" },
  method = {
    summary = "string", query = "table", body = "table", answers = "table", changes = "boolean",
    socket = "boolean", run = "function",
  },
}
local NEEDED <const> = {
  executor = { "summary", "operations" },
  handler = { "path", "methods" },
  method = { "summary", "run" },
}
local METHODS <const> = { "DELETE", "GET", "PATCH", "POST", "PUT" }

local function wrong(format, ...) error(format:format(...), 0) end

-- where: "" or "methods.GET."
local function check_fields(found, kind, where)
  if type(found) ~= "table" then wrong("%s%s must be a table", where, kind) end
  local fields = FIELDS[kind]
  for key, value in pairs(found) do
    local want = fields[key]
    if not want then
      wrong("%s%s: unknown field%s (%s)", where, tostring(key),
        words.hint(tostring(key), words.keys(fields)), table.concat(words.keys(fields), ", "))
    end
    if type(value) ~= want then
      wrong("%s%s must be a %s, got %s", where, key, want, words.show(value))
    end
  end
  for _, key in ipairs(NEEDED[kind]) do
    if found[key] == nil then wrong("%s%s is missing", where, key) end
  end
end

local function compile(decl, where)
  local ok, found = pcall(schema.compile, decl)
  if not ok then wrong("%s: %s", where, tostring(found)) end
  return found
end

-- What is answered: by status the name of a shape, or a JSON schema.
local function check_answers(answers, where)
  for status, shape in pairs(answers or {}) do
    if math.type(status) ~= "integer" or status < 100 or status > 599 then
      wrong("%s: %s is no HTTP status", where, words.show(status))
    end
    if type(shape) == "string" and not shapes[shape] then
      wrong("%s[%d]: unknown shape %s%s", where, status, words.show(shape),
        words.hint(shape, words.keys(shapes)))
    elseif type(shape) ~= "string" and type(shape) ~= "table" then
      wrong("%s[%d] must be the name of a shape, or a JSON schema", where, status)
    end
  end
end

function check.executor(plugin)
  check_fields(plugin, "executor", "")
  for name, operation in pairs(plugin.operations) do
    if type(name) ~= "string" or type(operation) ~= "function" then
      wrong("operations.%s must be a function", tostring(name))
    end
  end
  plugin.declared = compile(plugin.settings or {}, "settings")
end

-- Compiles the schemas too: method.checks = { query, body }.
function check.handler(plugin, dialect)
  check_fields(plugin, "handler", "")
  if not plugin.path:find "^/" then wrong("path must begin with '/'") end
  plugin.dialect = plugin.dialect or dialect
  if plugin.dialect ~= dialect then
    wrong("dialect is %s, but the file is in the directory of %s", plugin.dialect, dialect)
  end
  if next(plugin.methods) == nil then wrong("methods is empty") end
  for name, method in pairs(plugin.methods) do
    local where = ("methods.%s"):format(tostring(name))
    if not (" " .. table.concat(METHODS, " ") .. " "):find(" " .. tostring(name) .. " ", 1, true)
    then
      wrong("%s: unknown method (%s)", where, table.concat(METHODS, ", "))
    end
    check_fields(method, "method", where .. ".")
    check_answers(method.answers, where .. ".answers")
    method.checks = {
      query = compile(method.query or {}, where .. ".query"),
      body = method.body and compile(method.body, where .. ".body"),
    }
  end
end

return check
