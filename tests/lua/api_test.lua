-- SPDX-License-Identifier: MIT
-- The HTTP API, dialect exed: requests as data, with the status and a part of the body that must
-- come back. Tags: R the predecessor's README says it, S only its source did, F a fault of it that
-- stays fixed, X exed's own.

local access = require "exed.access"
local api = require "exed.api"
local fiber = require "exed.fiber"
local follow = require "exed.follow"
local inventory = require "exed.inventory"
local json = require "exed.json"
local plugins = require "exed.plugins"
local t = require "support"
local timer = require "exed.timer"

local JID <const> = "c4f6acd3-4dda-44d0-8f99-76b4587e55d0"
local GONE <const> = "00000000-0000-4000-8000-000000000000"
local RUNS <const> = "eb1f4035-d62b-497f-9e3f-543e8e6f15f3"

-- ---- a node with a store in memory --------------------------------------------------------------

local function job_fields(jid, fields)
  local job = {
    operation = "execute", args = '{"command":"true"}', startat = "1488272314", state = "ended",
    result = "0", error = "", phase = "ended", last = "2", targets = "2", request = "{}",
  }
  for name, value in pairs(fields) do job[name] = value end
  return job, jid
end

local function new_store()
  local store = { created = {}, jobs = {}, page_rows = {} }
  store.jobs[JID] = job_fields(JID, {})
  store.jobs[RUNS] = job_fields(RUNS, { state = "running", phase = "running", result = "1" })
  function store.is_passing(err) return err.code == "away" end
  function store:create(job)
    if self.err then return nil, self.err end
    self.created[#self.created + 1] = job
    self.jobs[job.jid] = job_fields(job.jid, { targets = tostring(#job.targets) })
    return { how = self.how or "CREATED", jid = job.jid, state = "running" }
  end
  function store:replayed() return self.first or "" end
  function store:get(jid)
    if self.err then return nil, self.err end
    if not self.jobs[jid] then return nil, { code = "gone", message = "no job " .. jid } end
    return self.jobs[jid]
  end
  store.look = store.get
  function store.targets(_, _, from, to)
    return table.move({ "web01", "web02" }, from + 1, math.min(to, 2), 1, {})
  end
  function store:list(all)
    if self.err then return nil, self.err end
    return all and { JID, RUNS, GONE } or { JID, RUNS }
  end
  function store:page(jid, after)
    local rows = {}
    for id = after + 1, #self.page_rows do rows[#rows + 1] = self.page_rows[id] end
    return { state = self.jobs[jid].state, last = #self.page_rows, rows = rows }
  end
  function store:remove(jid)
    if self.jobs[jid].state == "running" then return nil, { code = "running", message = jid } end
    return true
  end
  function store:targets_text(jid, from, to)
    local names = self:targets(jid, from, to)
    return json.encode(json.array(names)):sub(2, -2)
  end
  function store:cancel(_, jid)
    if self.jobs[jid].state == "ended" then return nil, { code = "ended", message = jid } end
    return {}
  end
  return store
end

local function two_records()
  return {
    { 1, 1, "record", 0, 5, '{"status":5,"rtc":0,"stdout":"a","stderr":""}' },
    { 2, 0, "record", 0, 4, '{"status":4,"error":"no route"}' },
  }
end

local function new_node(settings)
  local config = {
    runner = { modules = "/nonexistent", executor = "local", role = "both" },
    store = { max_jobs = 10, memory = 1000 }, runtime = { executor_budget = 1000000 },
    api = {
      dialects = { "exed" }, listen = { { address = "127.0.0.1", port = 1, dialects = {} } },
      handler_timeout = 1, state_alias = false, max_hosts = 1000,
    },
  }
  for name, value in pairs(settings or {}) do config.api[name] = value end
  local node = {
    config = config, version = "1", store = new_store(), id = "n1", incarnation = 7,
    runner = { kick = function() end, start = function() end, doubt = function() end },
    holder = { inventory = assert(inventory.parse("hosts", "[web]\nweb01\nweb02\n[db]\ndb01\n")) },
    conn = {
      subscribe = function()
        return setmetatable({
          next = function(_, seconds)
            timer.sleep(math.min(seconds, 0.02))
            return ""
          end,
        }, { __close = function() end })
      end,
    },
    store_trouble = function() return nil end,
    store_error = function(node) return node.store.err and node.store.err.message end,
    durability = function() return "full" end,
    running = function() return { { index = 1, phase = "running", seconds = 3 } } end,
  }
  node.store.page_rows = two_records()
  node.plugins = plugins.open(node)
  node.tasks = { list = function() return {} end }
  node.follow = follow.new(node)
  return node
end

-- ---- a client -----------------------------------------------------------------------------------

local function decode_query(text)
  local query = {}
  for name, value in text:gmatch "([^&=]+)=?([^&]*)" do
    value = value:gsub("+", " "):gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    query[name] = query[name] or {}
    table.insert(query[name], value)
  end
  return query
end

-- A request as the server gives it to the API; keeps what it is answered.
local function new_request(method, target, body, headers)
  local path, query = target:match "^([^?]*)%??(.*)$"
  local req = {
    method = method, path = path, query = decode_query(query), body = body or "",
    headers = headers or {}, peer = "127.0.0.1:5", address = "127.0.0.1", host = "127.0.0.1:1",
    chunks = {},
  }
  if req.body ~= "" and not req.headers["content-type"] then
    req.headers["content-type"] = "application/json"
  end
  if req.headers.host then req.host = req.headers.host end
  function req:respond(status, given, text)
    assert(not self.status, "answered twice")
    self.status, self.answer, self.text = status, given or {}, text
    return true
  end
  function req:start(status, given)
    self.status, self.answer, self.started = status, given or {}, true
    return true
  end
  function req:write(text)
    self.chunks[#self.chunks + 1] = text
    return true
  end
  function req:finish()
    self.text, self.finished = table.concat(self.chunks), true
    return true
  end
  function req:header(name, ...)
    if ... then return self.headers[name], self:header(...) end
    return self.headers[name]
  end
  function req:cut() self.was_cut = true end
  function req:note(who, jid) self.who, self.jid = who or self.who, jid or self.jid end
  return req
end

local function ask(node, method, target, body, headers)
  node.api = node.api or api.new(node)
  local req = new_request(method, target, body, headers)
  node.api:handle(req)
  return req
end

local function body_of(req) return assert(json.decode(req.text)) end

-- ---- the table ----------------------------------------------------------------------------------

local function targets(more) return '{"targets":["web01","web02"]' .. (more or "") .. "}" end

-- tag, method, target, body, status, text in the answer's body
local CASES <const> = {
  { "R", "GET", "/target", nil, 200, '["web01","web02","db01"]' },
  { "R", "GET", "/target?pattern=web*", nil, 200, '["web01","web02"]' },
  { "R", "GET", "/target?pattern=nix", nil, 200, "[]" },
  { "X", "GET", "/target?pattern=a%5B3%3A1%5D", nil, 400, '"message":' },
  { "X", "GET", "/target/", nil, 200, '["web01",' },
  { "X", "GET", "/ping", nil, 400, '"no target(s) given"' },
  { "X", "GET", "/ping?target=", nil, 400, '"no target(s) given"' },
  { "R", "GET", "/ping?target=nix", nil, 404, '"no hosts match that target"' },
  { "R", "GET", "/execute?target=web01", nil, 400, "'cmd' is missing" },
  { "X", "GET", "/execute?target=nix", nil, 404, '"no hosts match that target"' },
  { "X", "GET", "/execute?target=web01&cmd=", nil, 400, "cmd" },
  { "X", "GET", "/execute?target=web01&cmd=a%00b", nil, 400, "'cmd' must be text without NUL" },
  { "X", "GET", "/execute?target=web01&cmd=x&cmd=y", nil, 400, "'cmd' is given 2 times" },
  { "X", "GET", "/ping?target=web01&timout=3", nil, 400, "did you mean 'timeout'?" },
  { "R", "POST", "/ping", targets(), 201, '{"jid":"' },
  { "R", "POST", "/ping", '{"target":"web01,web02"}', 201, '{"jid":"' },
  { "R", "POST", "/execute", targets ',"cmd":"true"', 201, '{"jid":"' },
  { "X", "POST", "/execute", targets ',"cmd":"true","priority":11', 400, "at most 10" },
  { "X", "POST", "/execute", targets ',"cmd":"true","lock":"all"', 400, "'lock' must be one of" },
  { "X", "POST", "/execute", targets ',"cmd":"true","executor":"no"', 400, "no" },
  { "X", "POST", "/execute", targets ',"cmd":"true","dry_runs":true', 400, "unknown field" },
  { "X", "POST", "/execute", targets ',"cmd":"true","dry_run":true,"window":1', 200,
    '"at":1,' },
  { "X", "POST", "/execute", targets ',"cmd":5', 400, "'cmd' must be text" },
  { "X", "POST", "/execute", '{"cmd":5,"x":1}', 400, '"no target(s) given"' },
  { "X", "POST", "/execute", '{"targets":["nix"],"cmd":5}', 404, "no hosts match that target" },
  { "X", "POST", "/execute", targets ',"cmd":null', 400, "'cmd' is missing" },
  { "X", "POST", "/execute", "", 400, '"missing body"' },
  { "S", "POST", "/execute", "{", 400, '"Invalid JSON document: ' },
  { "S", "POST", "/execute", '{"a":1e999}', 400, '"Invalid JSON document: ' },
  { "S", "POST", "/execute", "[]", 400, "a JSON object" },
  { "S", "POST", "/execute", "5", 400, "a JSON object" },
  { "S", "POST", "/execute", "null", 400, "a JSON object" },
  { "R", "GET", "/jobs", nil, 200, ('["%s","%s"]'):format(JID, RUNS) },
  { "X", "GET", "/jobs?all=1", nil, 200, GONE },
  { "R", "GET", "/jobs?detail=True", nil, 200, '[{"targets":["web01","web02"],' },
  { "X", "GET", "/jobs?detail=maybe", nil, 400, "'detail' must be a boolean" },
  { "R", "GET", "/jobs/" .. JID, nil, 200, '"return_data":{}' },
  { "R", "GET", "/jobs/" .. GONE, nil, 404, '"no such jid ' .. GONE .. '"' },
  { "F", "GET", "/jobs/x:results", nil, 404, '"no such jid x:results"' },
  { "R", "DELETE", "/jobs", nil, 400, '"no jid given"' },
  { "R", "DELETE", "/jobs/", nil, 400, '"no jid given"' },
  { "R", "DELETE", "/jobs/" .. JID, nil, 204, "" },
  { "R", "DELETE", "/jobs/" .. GONE, nil, 404, '"no such jid ' .. GONE .. '"' },
  { "R", "DELETE", "/jobs/" .. RUNS, nil, 400, '"cannot delete a running job, jid ' .. RUNS },
  { "X", "POST", "/jobs/" .. RUNS .. "/cancel", "", 200, '"state":1' },
  { "X", "POST", "/jobs/" .. JID .. "/cancel", "{}", 409, "has ended" },
  { "X", "POST", "/jobs/" .. GONE .. "/cancel", "", 404, "no such jid" },
  { "X", "POST", "/jobs/" .. RUNS .. "/cancel", '{"why":1}', 400, "unknown field" },
  { "F", "GET", "/nix", nil, 404, '{"message":"no such path /nix"}' },
  { "F", "PUT", "/execute", nil, 405, '"message"' },
  { "F", "OPTIONS", "/jobs", nil, 204, "" },
  { "F", "HEAD", "/target", nil, 200, "" },
  { "X", "GET", "/healthz", nil, 200, '"status":"ok"' },
}

for _, case in ipairs(CASES) do
  local tag, method, target, body, status, part = table.unpack(case, 1, 6)
  t.test(("%s %s %s %s"):format(tag, method, target, body or ""), function()
    local node = new_node()
    local req = ask(node, method, target, body)
    t.eq(req.status, status, req.text)
    t.has(req.text, part)
    if status >= 400 then t.eq(type(body_of(req).message), "string") end
  end)
end

-- ---- more than a status -------------------------------------------------------------------------

t.test("F 405 and OPTIONS say what is allowed", function()
  local node = new_node()
  t.eq(ask(node, "PUT", "/execute").answer.Allow, "GET, HEAD, OPTIONS, POST")
  t.eq(ask(node, "OPTIONS", "/jobs").answer.Allow, "DELETE, GET, HEAD, OPTIONS")
end)

t.test("R a POST is a job that has what was asked for", function()
  local node = new_node()
  local req = ask(node, "POST", "/execute", targets ',"cmd":"echo é","timeout":"5m","lines":1')
  local jid = body_of(req).jid
  t.eq(req.answer.Location, "/jobs/" .. jid)
  local job = node.store.created[1]
  t.eq({ job.jid, job.listed, job.targets }, { jid, true, { "web01", "web02" } })
  t.eq(json.decode(job.fields.args), { command = "echo é" })
  t.eq(job.fields.operation, "execute")
  local request = json.decode(job.fields.request)
  t.eq({ request.timeout, request.lines }, { 300, true })
  t.eq(job.fields.who, "127.0.0.1")
end)

t.test("R targets come in every form, in body and query", function()
  for _, form in ipairs { '["web01","db01"]', '"web01,db01"', '" web01 , db01 "',
      '"[\\"web01\\",\\"db01\\"]"' } do
    local node = new_node()
    for _, name in ipairs { "target", "targets" } do
      t.eq(ask(node, "POST", "/ping", ('{"%s":%s}'):format(name, form)).status, 201, form)
    end
    for i = 1, 2 do t.eq(node.store.created[i].targets, { "web01", "db01" }, form) end
  end
  for _, form in ipairs { "target=web01&target=db01", "targets=web01,db01", "target=web01%2Cdb01",
      "targets=%5B%22web01%22,%22db01%22%5D" } do
    local node = new_node()
    t.eq(ask(node, "GET", "/ping?" .. form).status, 200, form)
    t.eq(node.store.created[1].targets, { "web01", "db01" }, form)
  end
end)

t.test("R a GET answers with the records, S not listed, and names its job", function()
  local node = new_node()
  local req = ask(node, "GET", "/execute?target=web*&cmd=true")
  t.eq(body_of(req), {
    web02 = { status = 5, rtc = 0, stdout = "a", stderr = "" },
    web01 = { status = 4, error = "no route" },
  })
  t.eq(req.started, nil, "a small answer has a length")
  local job = node.store.created[1]
  t.eq({ job.listed, req.answer["Exed-Jid"] }, { false, job.jid })
end)

t.test("R unknown targets among known ones are known to the store as such", function()
  local node = new_node()
  ask(node, "POST", "/ping", '{"targets":["nix","web01"]}')
  local job = node.store.created[1]
  t.eq({ job.targets, job.known }, { { "web01", "nix" }, 1 })
end)

t.test("R the job object", function()
  local node = new_node()
  t.eq(body_of(ask(node, "GET", "/jobs/" .. JID .. "?outputs=1")), {
    targets = json.array { "web01", "web02" }, operate = "execute",
    operate_args = { command = "true" }, startat = 1488272314, state = 0, taskid = JID,
    error = "", return_data = {
      web02 = json.array { { status = 5, rtc = 0, stdout = "a", stderr = "" } },
      web01 = json.array { { status = 4, error = "no route" } },
    },
  })
  local running = body_of(ask(node, "GET", "/jobs/" .. RUNS .. "?detail=1"))
  t.eq({ running.state, running.phase, running.running[1].host, running.running[1].phase },
    { 1, "running", "web02", "running" })
end)

t.test("R follow: the object first, then a record a chunk, until the job ends", function()
  local node = new_node()
  local req = new_request("GET", "/jobs/" .. RUNS .. "?follow=1&outputs=1")
  node.api = api.new(node)
  fiber.spawn("follower", function() node.api:handle(req) end)
  local deadline = timer.now() + 5
  while #req.chunks < 3 and timer.now() < deadline do timer.sleep(0.005) end
  t.eq(#req.chunks, 3)
  t.eq(json.decode(req.chunks[1]).return_data, {})
  t.eq(req.chunks[2], '{"web02":{"status":5,"rtc":0,"stdout":"a","stderr":""}}\n')
  t.eq(req.chunks[3], '{"web01":{"status":4,"error":"no route"}}\n')
  t.eq(req.finished, nil, "it goes on while the job runs")
  node.store.jobs[RUNS].state = "ended"
  while not req.finished and timer.now() < deadline do timer.sleep(0.005) end
  t.eq({ req.finished, #req.chunks }, { true, 3 })
end)

t.test("X a stream that breaks is cut, an answer that did not begin is an error", function()
  local node = new_node()
  node.store.page = function() return nil, { code = "gone", message = "no job" } end
  local req = ask(node, "GET", "/jobs/" .. RUNS .. "?follow=1")
  t.eq({ req.was_cut, req.finished }, { true, nil })
  req = ask(node, "GET", "/jobs/" .. RUNS .. "?outputs=1")
  t.eq({ req.status, req.was_cut }, { 404, nil })
end)

t.test("X a large answer is a stream, a small one has a length", function()
  local node = new_node()
  local big = '{"status":5,"stdout":"' .. ("x"):rep(200000) .. '"}'
  node.store.page_rows = { { 1, 0, "record", 0, 5, big }, { 2, 1, "record", 0, 5, big } }
  local req = ask(node, "GET", "/execute?target=web*&cmd=true")
  t.eq({ req.started, req.finished, #body_of(req).web01.stdout }, { true, true, 200000 })
end)

t.test("R the store is away: 503 with Retry-After, and /healthz says so", function()
  local node = new_node()
  node.store.err = { code = "away", message = "no connection" }
  for _, target in ipairs { "/jobs", "/jobs/" .. JID, "/ping?target=web01" } do
    local req = ask(node, "GET", target)
    t.eq({ req.status, req.answer["Retry-After"] }, { 503, "2" }, target)
  end
  local req = ask(node, "GET", "/healthz")
  t.eq({ req.status, body_of(req).store.error }, { 503, "no connection" })
  node.store.err = { code = "full", message = "1 bytes of 1" }
  t.has(ask(node, "POST", "/ping", targets()).text, '"store full: ')
end)

t.test("R leases: 409 with their holders", function()
  local node = new_node()
  node.store.err = { code = "conflict", message = ('{"web01":["%s"]}'):format(JID) }
  local req = ask(node, "POST", "/ping", targets())
  t.eq(req.status, 409)
  t.eq(body_of(req), {
    message = "operate conflict, job already running on some host(s)",
    holders = { web01 = json.array { JID } },
  })
end)

t.test("X Idempotency-Key: the same body has the same hash, another one another", function()
  local node = new_node()
  local bodies = { '{"targets":"web01","cmd":"a"}', '{"cmd":"a", "targets":"web01"}',
    '{"targets":"web01","cmd":"b"}' }
  for i, body in ipairs(bodies) do
    node.store.how = i == 2 and "REPLAY" or nil -- as if both came at once
    local req = ask(node, "POST", "/execute", body, { ["idempotency-key"] = "k" })
    t.eq(req.answer["Idempotent-Replay"], i == 2 and "true" or nil)
  end
  local made = node.store.created
  t.eq({ made[1].idem_key, made[1].idem_hash == made[2].idem_hash }, { "k", true })
  t.eq(made[1].idem_hash == made[3].idem_hash, false)
  node.store.err = { code = "mismatch", message = JID }
  t.eq(ask(node, "POST", "/execute", bodies[1], { ["idempotency-key"] = "k" }).status, 422)
  t.eq(ask(node, "POST", "/execute", bodies[1], { ["idempotency-key"] = "" }).status, 400)
end)

t.test("X Idempotency-Key: a request that was answered is not checked again", function()
  local node, key = new_node(), { ["idempotency-key"] = "k" }
  t.eq(ask(node, "POST", "/execute", '{"targets":"gone01"}', key).status, 404)
  node.store.first = JID
  local req = ask(node, "POST", "/execute", '{"targets":"gone01"}', key)
  t.eq({ req.status, req.answer["Idempotent-Replay"], req.answer.Location },
    { 201, "true", "/jobs/" .. JID })
  t.eq(ask(node, "POST", "/execute", "{", key).status, 400)
  -- Only where a job is made.
  t.eq(ask(node, "POST", "/jobs/" .. GONE .. "/cancel", "", key).status, 404)
end)

t.test("X only JSON is read as a body, and asked for only when there is one", function()
  local node = new_node()
  local form = { ["content-type"] = "application/x-www-form-urlencoded" }
  t.eq(ask(node, "POST", "/ping", "targets=web01", form).status, 415)
  t.has(ask(node, "POST", "/ping", "", form).text, "missing body")
  local utf8_json = { ["content-type"] = "Application/JSON; charset=utf-8" }
  t.eq(ask(node, "POST", "/ping", targets(), utf8_json).status, 201)
end)

t.test("X a Host that is not ours is refused, and the setting is named", function()
  local node = new_node()
  for _, host in ipairs { "localhost", "127.0.0.1:16808", "LOCALHOST:1", "localhost." } do
    t.eq(ask(node, "GET", "/target", nil, { host = host }).status, 200, host)
  end
  local req = ask(node, "GET", "/target", nil, { host = "evil.example" })
  t.eq(req.status, 421)
  t.has(req.text, "allowed_hosts in [api]")
  node = new_node { allowed_hosts = { "exed.example", "fd00::1" } }
  t.eq(ask(node, "GET", "/target", nil, { host = "[fd00::1]:80" }).status, 200)
  t.eq(ask(node, "GET", "/target", nil, { host = "Exed.Example:80" }).status, 200)
  t.eq(ask(node, "GET", "/target", nil, { host = "localhost" }).status, 421)
end)

t.test("X pages of other sites can ask for nothing but by a link", function()
  local node = new_node()
  local function status(headers) return ask(node, "POST", "/ping", targets(), headers).status end
  t.eq(status { origin = "http://evil.example" }, 403)
  t.eq(status { origin = "null" }, 403)
  t.eq(status { ["sec-fetch-site"] = "cross-site" }, 403)
  t.eq(status { origin = "http://127.0.0.1:1" }, 201)
  t.eq(status { ["sec-fetch-site"] = "same-origin" }, 201)
  t.eq(ask(node, "GET", "/ping?target=web01", nil, { ["sec-fetch-site"] = "cross-site" }).status,
    403)
  t.eq(ask(node, "GET", "/target", nil, { origin = "http://evil.example" }).status, 403)
  local link = {
    ["sec-fetch-site"] = "cross-site", ["sec-fetch-mode"] = "navigate",
    ["sec-fetch-dest"] = "document",
  }
  t.eq(ask(node, "GET", "/target", nil, link).status, 200)
  t.eq(ask(node, "GET", "/execute?target=web01&cmd=true", nil, link).status, 403)
  link["sec-fetch-dest"] = "iframe"
  t.eq(ask(node, "GET", "/target", nil, link).status, 403)
end)

t.test("X where tokens are asked for only those with a token come in", function()
  local asks, name = access.asks, access.name
  access.asks = function() return true end
  access.name = function(token) return token == "secret-1" and "robot" or nil end
  local _ <close> = setmetatable({}, {
    __close = function() access.asks, access.name = asks, name end,
  })
  local node = new_node()
  local req = ask(node, "GET", "/jobs")
  t.eq({ req.status, req.answer["WWW-Authenticate"], req.who }, { 401, "Bearer", nil })
  req = ask(node, "GET", "/jobs", nil, { authorization = "Bearer secret-2" })
  t.eq({ req.status, req.who }, { 401, nil })
  req = ask(node, "GET", "/jobs", nil, { authorization = "Bearer secret-1" })
  t.eq({ req.status, req.who }, { 200, "robot" })
end)

t.test("X a handler that breaks or hangs costs only its own request", function()
  local node = new_node { handler_timeout = 0.1 }
  node.store.list = function() error "broken" end
  local req = ask(node, "GET", "/jobs")
  t.eq({ req.status, req.text }, { 500, '{"message":"internal error"}' })
  node.store.list = function() timer.sleep(60) end
  t.eq(ask(node, "GET", "/jobs").status, 504)
  t.eq(ask(node, "GET", "/target").status, 200)
end)

t.done()
