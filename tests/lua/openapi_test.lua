-- SPDX-License-Identifier: MIT
-- The API's document: how declared fields and Lua patterns are said in JSON schemas, and what a
-- handler's methods become.

local check = require "exed.plugins.check"
local fields = require "exed.api.openapi_fields"
local json = require "exed.json"
local openapi = require "exed.api.openapi"
local schema = require "exed.schema"
local t = require "support"

local function described(decl) return schema.describe(schema.compile { x = decl })[1] end

for _, case in ipairs {
  { "^[%w_][%w@._:-]*$", "^(?:[A-Za-z0-9_][A-Za-z0-9@._:\\-]*)$" },
  { "%d+%.%d+", "^(?:[0-9]+\\.[0-9]+)$" }, { "[^/%s]+", "^(?:[^/\\s]+)$" },
  { "a-b", "^(?:a*?b)$" }, { "x{2}|y", "^(?:x\\{2\\}\\|y)$" }, { "a%$", "^(?:a\\$)$" },
  { "[a-f]%x?", "^(?:[a-f][0-9A-Fa-f]?)$" }, { "%b()", nil }, { "%f[%w]", nil }, { "%W", nil },
} do
  t.test("pattern " .. case[1], function() t.eq(fields.pattern(case[1]), case[2]) end)
end

for _, case in ipairs {
  { { "integer", min = 1, max = 3 }, '"maximum":3,"minimum":1' },
  { { "string", min = 1, max = 9, match = "%a+" }, '"pattern":"^(?:[A-Za-z]+)$"' },
  { { "choice", of = { "0", "on" } }, '"enum":["0",0,"on"]' },
  { { "boolean", default = false, help = "why" }, '"default":false,"description":"why"' },
  { { "list", of = { "integer", min = 2 } }, '"items":{"minimum":2,"type":"integer"}' },
  { { "hosts" }, '"type":"string"' }, { { "duration", default = "5m" }, '"default":300' },
  { { "count", default = "10%" }, '"default":"10%"' }, { { "object" }, '"type":"object"' },
  { { "url" }, '"format":"uri"' }, { { "path" }, '"pattern":"^/"' },
  { { "command" }, '"minLength":1' }, { { "number", min = 0.5 }, '"minimum":0.5' },
  { { "string", secret = true, default = "hush" }, '"writeOnly":true' },
} do
  t.test("field " .. case[1][1] .. " " .. case[2], function()
    local text = json.encode(fields.schema(described(case[1])))
    t.has(text, case[2])
    t.eq(text:find("hush", 1, true), nil, text)
  end)
end

t.test("an object says which fields it wants, under any of their names", function()
  local list = schema.describe(schema.compile {
    targets = { "hosts", required = true, alias = "target" },
    cmd = { "string", required = true }, n = { "integer" },
  })
  local text = json.encode(fields.object(list))
  t.has(text, '{"anyOf":[{"required":["targets"]},{"required":["target"]}]}')
  t.has(text, '{"required":["cmd"]}')
  t.eq(text:find('"required":["n"]', 1, true), nil, text)
  t.has(text, '"additionalProperties":false')
end)

local function handler(answers)
  return {
    type = "handler", path = "/one/:name/two", dialect = "exed", methods = {
      POST = {
        summary = "s", body = { n = { "integer", required = true } }, answers = answers,
        run = function() end,
      },
    },
  }
end

t.test("a handler's method is an operation", function()
  local one = handler { [200] = "Told", [204] = {}, [201] = { ["text/plain"] = "Names" } }
  check.handler(one, "exed")
  local document = openapi.document { handlers = { ["exed/one"] = one }, version = "1" }
  local post = document.paths["/one/{name}/two"].post
  t.eq(post.operationId, "post_one_name_two")
  t.eq(post.parameters[1].name, "name")
  t.eq(post.requestBody.required, true)
  t.eq(post.responses["200"].content["application/json"].schema["$ref"],
    "#/components/schemas/Told")
  t.eq(post.responses["204"].content, nil)
  t.eq(post.responses["201"].content["text/plain"].schema["$ref"], "#/components/schemas/Names")
  t.eq(post.responses["409"]["$ref"], "#/components/responses/E409")
end)

t.test("what a handler says it answers is checked", function()
  for answers, text in pairs {
    [{ [200] = "Joobs" }] = "unknown shape 'Joobs', did you mean 'Jobs'?",
    [{ ok = "Job" }] = "is no HTTP status", [{ [2000] = "Job" }] = "is no HTTP status",
    [{ [200] = 5 }] = "must be the name of a shape, or a JSON schema",
  } do
    t.raises(function() check.handler(handler(answers), "exed") end, text)
  end
end)

t.done()
