-- SPDX-License-Identifier: MIT
-- The API's document, OpenAPI 3.1, made of what there is: the paths and methods of the handlers,
-- the schemas that check their queries and bodies (exed.schema), the shapes of their answers
-- (exed.api.shapes), and what the tasks take.
--
--   openapi.document { handlers, tasks, version } -> table for json.encode
--     handlers: of exed.plugins; tasks: list with name, summary, args (or nil)

local fields = require "exed.api.openapi_fields"
local json = require "exed.json"
local schema = require "exed.schema"
local shapes = require "exed.api.shapes"
local words = require "exed.words"

local openapi = {}

local DIALECT <const> = "exed"
local JSON <const> = "application/json"

local ABOUT <const> = [[
Runs operations and tasks on fleets of machines. A GET of an operation waits and answers with the
records; a POST makes a job and answers with its jid.

Booleans may also be given as 1, yes, True and 0, no, False; lists as text with commas, as a
repeated parameter or as JSON; durations as 90, 500ms, 90s, 5m, 4h or 2d. An unknown field is an
error. HEAD answers wherever GET does, OPTIONS everywhere. What is no HTTP of ours is answered
before there is an endpoint: 408, 413, 414, 417, 431, 501, 505, as an Error.]]

local ERRORS <const> = {
  [400] = "The request is wrong; the message says where.",
  [401] = "A bearer token is needed, or is not known.",
  [403] = "A page of another site may not ask for this, or it is not yours to answer.",
  [404] = "There is no such job, task or host.",
  [405] = "Not a method of this path.",
  [409] = "Other jobs hold hosts, or the job is in another state.",
  [410] = "What is asked for is not kept any more.",
  [413] = "The body is too large.",
  [415] = "The body is not application/json.",
  [421] = "The Host header is not one of this server's.",
  [422] = "The Idempotency-Key was used with another body.",
  [426] = "The WebSocket's version is not spoken here.",
  [500] = "A mistake of exed or of a plugin.",
  [503] = "The job store is away or full; try again.",
  [504] = "The answer took too long.",
}
local ALWAYS <const> = { 400, 401, 403, 405, 421, 500, 503, 504 }

local HEADERS <const> = {
  Location = "the job's path",
  ["Idempotent-Replay"] = "true when this is the answer to an earlier request with that key",
  ["Exed-Jid"] = "the job that did it, which is not listed",
  Allow = "the methods of the path",
  ["Retry-After"] = "seconds",
  ["WWW-Authenticate"] = "what is wanted",
}
local WITH <const> = {
  Jid = { "Location", "Idempotent-Replay" }, Answered = { "Exed-Jid" },
  [401] = { "WWW-Authenticate" }, [405] = { "Allow" }, [503] = { "Retry-After" },
}

local function ref(kind, name) return { ["$ref"] = ("#/components/%s/%s"):format(kind, name) } end

local function headers_of(key)
  if not WITH[key] then return nil end
  local headers = {}
  for _, name in ipairs(WITH[key]) do headers[name] = ref("headers", name) end
  return headers
end

-- ---- answers ------------------------------------------------------------------------------------

local function to_schema(shape)
  return type(shape) == "string" and ref("schemas", shape) or shape
end

-- shape: the name of one, a schema, or { [media type] = either }; an empty table: no body.
local function answer_of(shape)
  local response = { description = "The answer.", headers = headers_of(shape), content = {} }
  if type(shape) == "table" and next(shape) == nil then
    response.description, response.content = "Done.", nil
  elseif type(shape) == "table" and tostring(next(shape)):find("/", 1, true) then
    for kind, one in pairs(shape) do response.content[kind] = { schema = to_schema(one) } end
  else
    response.content[JSON] = { schema = to_schema(shape) }
  end
  return response
end

local function errors_of(path, method)
  local list = table.move(ALWAYS, 1, #ALWAYS, 1, {})
  local body, has_targets = method.checks.body, false
  for _, checker in pairs(method.checks) do
    has_targets = has_targets or checker.by_name.targets ~= nil
  end
  local function add(wanted, ...)
    for _, status in ipairs(wanted and { ... } or {}) do list[#list + 1] = status end
  end
  add(path:find(":", 1, true) or has_targets, 404)
  add(has_targets or body and path:find(":", 1, true), 409)
  add(body, 413, 415)
  add(method.answers and method.answers[201], 422)
  add(method.socket, 410, 426)
  add(not method.socket and path:find("rerun", 1, true), 410)
  return list
end

local function responses_of(path, method)
  local responses = {}
  for _, status in ipairs(errors_of(path, method)) do
    responses[tostring(status)] = ref("responses", "E" .. status)
  end
  for status, shape in pairs(method.answers or {}) do
    responses[tostring(status)] = answer_of(shape)
  end
  if not method.answers then responses.default = { description = "The answer." } end
  return responses
end

-- ---- requests -----------------------------------------------------------------------------------

local KEY <const> = {
  name = "Idempotency-Key", ["in"] = "header", required = false,
  description = "the same again makes no second job, for a day",
  schema = { type = "string", minLength = 1, maxLength = 255 },
}
local LAST_EVENT <const> = {
  name = "Last-Event-ID", ["in"] = "header", required = false,
  description = "of text/event-stream: go on after that event", schema = { type = "string" },
}

local function parameters_of(path, method)
  local list = {}
  for name in path:gmatch ":([%w_]+)" do
    list[#list + 1] = {
      name = name, ["in"] = "path", required = true, schema = { type = "string" },
    }
  end
  fields.add_parameters(list, schema.describe(method.checks.query))
  if method.answers and method.answers[201] then list[#list + 1] = KEY end
  if method.socket then list[#list + 1] = LAST_EVENT end
  return #list > 0 and json.array(list) or nil
end

local function body_of(method)
  local checker = method.checks.body
  if not checker then return nil end
  local needed = false
  for _, field in ipairs(checker.fields) do needed = needed or field.required end
  return {
    required = needed, content = { [JSON] = { schema = fields.object(schema.describe(checker)) } },
  }
end

local function operation_of(path, name, method)
  local id = (name:lower() .. path):gsub("[^%w]+", "_"):gsub("_+$", "")
  return {
    operationId = id, summary = method.summary, tags = json.array { path:match "^/([^/]*)" },
    parameters = parameters_of(path, method), requestBody = body_of(method),
    responses = responses_of(path, method),
  }
end

-- ---- the whole ----------------------------------------------------------------------------------

local function components()
  local responses, headers, schemas = {}, {}, {}
  for status, text in pairs(ERRORS) do
    responses["E" .. status] = {
      description = text, headers = headers_of(status),
      content = { [JSON] = { schema = ref("schemas", "Error") } },
    }
  end
  for name, text in pairs(HEADERS) do
    headers[name] = { description = text, schema = { type = "string" } }
  end
  for name, shape in pairs(shapes) do schemas[name] = shape end
  return {
    responses = responses, headers = headers, schemas = schemas,
    securitySchemes = {
      bearer = {
        type = "http", scheme = "bearer",
        description = "a token of [api] token_file, when it is set",
      },
      certificate = {
        type = "mutualTLS", description = "a certificate of [api] tls_client_ca, when it is set",
      },
    },
  }
end

-- What the tasks take, as schemas of their own, and as what taskopts may be.
local function add_tasks(document, tasks)
  local known = {}
  for _, task in ipairs(tasks or {}) do
    if task.args then
      local name = "Task." .. task.name
      document.components.schemas[name] = fields.object(task.args)
      document.components.schemas[name].description = task.summary
      known[#known + 1] = ref("schemas", name)
    end
  end
  for _, path in ipairs { "/tasks", "/task" } do
    local post = #known > 0 and (document.paths[path] or {}).post
    if post then
      local body = post.requestBody.content[JSON].schema
      body.properties.taskopts.anyOf = json.array(known)
    end
  end
end

function openapi.document(found)
  local document = {
    openapi = "3.1.0",
    info = {
      title = "exed", version = found.version, description = ABOUT,
      license = { name = "MIT", identifier = "MIT" },
    },
    servers = json.array { { url = "/" } },
    security = json.array {
      { bearer = json.array {} }, { certificate = json.array {} }, {},
    },
    paths = {}, components = components(),
  }
  for _, key in ipairs(words.keys(found.handlers)) do
    local handler = found.handlers[key]
    local path = handler.path:gsub(":([%w_]+)", "{%1}")
    if handler.dialect == DIALECT and not document.paths[path] then
      document.paths[path] = {}
      for name, method in pairs(handler.methods) do
        document.paths[path][name:lower()] = operation_of(handler.path, name, method)
      end
    end
  end
  add_tasks(document, found.tasks)
  return document
end

return openapi
