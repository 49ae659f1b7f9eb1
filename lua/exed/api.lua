-- SPDX-License-Identifier: MIT
-- The HTTP API: finds a request's handler, checks what it was sent against what the handler
-- declares, runs it, and answers. Checks come in one order: method, Host and origin, who, JSON,
-- Idempotency-Key, targets, the other fields.
--
--   local found = api.start(node) -> api | nil, err     listens; node: config, plugins, holder,
--                                                       store, follow, version, dir
--   found:port()    found:stop()    found:close()

local checks = require "exed.api.checks"
local errors = require "exed.api.errors"
local fiber = require "exed.fiber"
local head = require "exed.api.head"
local idempotency = require "exed.idempotency"
local json = require "exed.json"
local log = require "exed.log"
local numbers = require "exed.api.numbers"
local out = require "exed.api.out"
local request_methods = require "exed.api.request"
local router = require "exed.api.router"
local schema = require "exed.schema"
local server = require "exed.http.server"
local socket = require "exed.api.socket"
local timer = require "exed.timer"

local api = {}
api.__index = api

local NONE <const> = 1e9 -- seconds; in place of 0, which means no limit
-- A body of so many bytes takes milliseconds to read and to judge, so others get a turn in between.
local LARGE <const> = 32 << 10
local UNSENT <const> = 8 << 20 -- bytes that a client may be behind before it is dropped, at least

-- JSON in query parameters and nulls in bodies are read by exed's own reader.
schema.json.null = json.null
schema.json.decode = function(text) return (json.decode(text)) end

-- What is kept of the settings; called again after a reload.
local function take_settings(self)
  local config = self.node.config.api
  self.allowed, self.known_host = checks.allowed_hosts(config), nil
  self.limit = config.handler_timeout > 0 and config.handler_timeout or nil
  self.max_values = config.max_json_values
  self.tagged = {}
end

function api.new(node)
  local self = setmetatable({ node = node, numbers = numbers.new() }, api)
  take_settings(self)
  return self
end

-- The routes, made again when plugins have changed.
local function routes(self)
  local plugins = self.node.plugins
  if self.generation ~= plugins.generation then
    self.router, self.generation = router.new(plugins.handlers), plugins.generation
  end
  return self.router
end

-- The dialects of the request's listener, which its tag names, else those of the settings.
local function dialects_of(self, req)
  local tag = req.tag or ""
  local list = self.tagged[tag]
  if list then return list end
  list = {}
  for name in tag:gmatch "[^,%s]+" do list[#list + 1] = name end
  if #list == 0 then list = self.node.config.api.dialects end
  self.tagged[tag] = list
  return list
end

-- ---- one request --------------------------------------------------------------------------------

-- What the handler gets. The fields that come later have their room from the beginning.
local function new_request(self, req, params, who, upgrade)
  return setmetatable({
    node = self.node, server_request = req, params = params, who = who, socket = upgrade,
    document = nil, resolved = nil, query = nil, body = nil,
  }, request_methods)
end

local function makes_job(method) return method.answers and method.answers[201] == "Jid" end

local function read_fields(self, req, method, request)
  local query, body = method.checks.query, method.checks.body
  local given = req.query
  local targets, err = checks.targets(self.node.holder.inventory, body or query,
    body and request.document or given, body and "json" or "text")
  if not targets then return nil, err end
  local ready
  if targets ~= true then ready, request.resolved = { targets = targets }, err end
  request.query, err = query:check(given, "text", not body and ready or nil)
  if not request.query then return nil, err end
  if body then
    request.body, err = body:check(request.document, "json", ready)
    if not request.body then return nil, err end
  end
  return true
end

-- Whether the request's fiber has been ended: whatever it would wait for raises this again.
local function is_cancelled(err)
  return type(err) == "string" and err:find("cancelled: ", 1, true) ~= nil
end

-- A client that leaves is no mistake that somebody looks for.
local function explain(raised)
  if type(raised) == "table" or is_cancelled(raised) then return raised end
  return debug.traceback(tostring(raised), 2)
end

local function run(self, req, method, request)
  fiber.limit(self.limit)
  local ok, status, answer, headers = xpcall(method.run, explain, request)
  fiber.limit(nil)
  if ok then
    if status then return status, answer, headers end
    return nil, answer or { code = "failed", message = "the handler gave no answer" }
  end
  local err = status
  if is_cancelled(err) then error(err, 0) end
  if type(err) ~= "table" then return nil, { code = 500, message = err } end
  if err.code == "timeout" then
    local text = "%s %s took more than %g s"
    return nil, { code = 504, message = text:format(req.method, req.path, self.limit or NONE) }
  end
  return nil, { code = 500, message = err.message or tostring(err) }
end

-- Status, answer and headers of a request that may be asked; or nil, err.
local function serve(self, req, method, request)
  local ok, err
  local large = #req.body >= LARGE
  request.document, err = checks.body(req, method.checks.body, self.max_values)
  if not request.document then return nil, err end
  if large then timer.sleep(0) end
  if makes_job(method) then
    local status, answer, headers = idempotency.replay(self.node, request)
    if status or answer then return status, answer, headers end
  end
  ok, err = read_fields(self, req, method, request)
  if not ok then return nil, err end
  if large then timer.sleep(0) end
  -- A HEAD only asks: what a GET would change stays as it is, and so its length is not known.
  if method.changes and req.method == "HEAD" then
    return 200, function(body) body:begin() return true end
  end
  return run(self, req, method, request)
end

-- status, answer (table, function or nil) and headers; or nil, err and the dialect.
local function judge(self, req, name, dialects, handler, params)
  local dialect = handler and handler.dialect or dialects[1]
  local method, who, upgrade = head.judge(self, req, name, handler)
  if not method then return nil, who, dialect end
  if method == true then return 204, nil, { Allow = router.allow(handler) } end
  local request = new_request(self, req, params, who, upgrade)
  local status, answer, headers = serve(self, req, method, request)
  if not status then return nil, answer, dialect end
  return status, answer, headers
end

local function respond_error(self, req, dialect, err)
  local status, body, headers = errors.answer(dialect, err, self.node)
  if status >= 500 and status ~= 503 then
    log.error("api", "%s %s: %s", req.method, req.path, tostring(err.message))
  end
  req:respond(status, headers, json.encode(body))
  return status
end

local SWITCHING <const> = 101 -- the status of an answer that is a WebSocket

local function body_of(self, req, status, headers, call)
  if status ~= SWITCHING then return out.new(req, status, headers, call) end
  call:answered()
  local config = self.node.config.api
  return socket.new(req, { ping = config.heartbeat, silence = config.send_timeout })
end

local function produce(make, body)
  local made, err = make(body)
  if made then body:finish() end
  return made, err
end

-- Writes the answer that a function makes. What fails before the first byte has gone is answered;
-- later the stream is cut, so that the client sees that something is missing. Returns the status,
-- nil when the client has gone.
local function stream(self, req, status, make, headers, call)
  local body = body_of(self, req, status, headers, call)
  local ok, made, err = xpcall(produce, explain, make, body)
  if ok and made then return status end
  if not ok then err = made end
  if err == out.GONE then return nil end
  if err == out.ENOUGH then
    req:finish()
    return status
  end
  if is_cancelled(err) then
    body:cut()
    return not err:find("cancelled: client left", 1, true) and "cut" or nil
  end
  if type(err) ~= "table" then err = { code = 500, message = tostring(err) } end
  if not body.started then return respond_error(self, req, "exed", err) end
  local level = err.code == "leaving" and log.info or log.warn
  level("api", "%s %s is cut: %s", req.method, req.path, tostring(err.message))
  body:cut(err)
  return "cut"
end

-- Answers one request of the server. Waits; runs in the request's fiber.
function api:handle(req)
  local dialects, name = dialects_of(self, req), req.method
  local handler, params = routes(self):find(dialects, req.path)
  local call <close> = self.numbers:call(handler, name)
  local status, answer, headers = judge(self, req, name, dialects, handler, params)
  if not status then
    call.status = respond_error(self, req, headers, answer)
    return
  end
  local jid = headers and headers["Exed-Jid"] or type(answer) == "table" and answer.jid
  if jid then req:note(nil, jid) end
  if type(answer) == "function" then
    call.status = stream(self, req, status, answer, headers, call) or call.status
    return
  end
  req:respond(status, headers, answer and json.encode(answer) or "")
  call.status = status
end

-- Refuses what its head alone is enough to refuse, before the body comes: nobody who may not come
-- in has the server read megabytes. Does not wait.
function api:refuse(req)
  local dialects = dialects_of(self, req)
  local handler = routes(self):find(dialects, req.path)
  local err = head.refusal(self, req, handler)
  if not err then return end
  local call <close> = self.numbers:call(handler, req.method)
  call.status = respond_error(self, req, handler and handler.dialect or dialects[1], err)
end

-- ---- listening ----------------------------------------------------------------------------------

local function limit(number) return number > 0 and number or NONE end

local function server_options(node)
  local config = node.config.api
  return {
    server = config.server_header or "exed/" .. node.version,
    max_body = limit(config.max_body), max_header = limit(config.max_header),
    max_lines = limit(config.max_header_lines), header_timeout = limit(config.header_timeout),
    body_rate = math.max(config.body_rate, 1), idle_timeout = limit(config.idle_timeout),
    stall_timeout = limit(config.send_timeout), send_rate = math.max(config.send_rate, 1),
    high_water = limit(config.send_buffer),
    max_unsent = math.max(UNSENT, 2 * config.send_buffer),
    peer_connections = limit(config.peer_connections),
    max_connections = limit(config.max_connections), tls = true,
  }
end

-- "127.0.0.1:16808", "[::1]:16808" or "unix:/path"
local function full_address(listener)
  local address = listener.address
  if address:find "^unix:" then return address end
  if address:find(":", 1, true) then address = "[" .. address .. "]" end
  return ("%s:%d"):format(address, listener.port)
end

-- Of exed.sock: exed-run speaks exed there, whatever others may speak.
local function socket_dialects(config)
  local list, has_exed = {}, false
  for i, name in ipairs(config.dialects) do
    list[i], has_exed = name, has_exed or name == "exed"
  end
  if not has_exed then table.insert(list, 1, "exed") end
  return list
end

-- Listens on the configured addresses (a worker: on none), and on the unix socket at that path.
local function open(self, path)
  local config = self.node.config
  self.server = server.new(server_options(self.node))
  local function refuse(req) self:refuse(req) end
  self.server:serve(function(req) self:handle(req) end, refuse)
  for _, listener in ipairs(config.runner.role == "worker" and {} or config.api.listen) do
    local address, dialects = full_address(listener), table.concat(listener.dialects, ",")
    local ok, err = self.server:listen(address, dialects)
    if not ok then return nil, err end
    log.info("api", "listening on %s%s, for %s", address,
      config.api.tls_cert and not address:find "^unix:" and " with TLS" or "", dialects)
  end
  return self.server:listen("unix:" .. path, table.concat(socket_dialects(config.api), ","))
end

-- Opens the listeners of the configuration and exed.sock in the node's directory.
function api.start(node)
  local self = api.new(node)
  local ok, err = open(self, node.dir:path() .. "/exed.sock")
  if ok then return self end
  self.server:close()
  return nil, err
end

-- After a reload: the new settings hold for requests and connections that come from now on.
function api:reload()
  take_settings(self)
  self.server:configure(server_options(self.node))
end

-- The port of the first listener.
function api:port() return self.server:port() end

-- Takes no new connections; requests that are under way go on.
function api:stop() self.server:stop() end

-- Requests that are under way.
function api:open() return self.server:counts().open end

function api:close() self.server:close() end

return api
