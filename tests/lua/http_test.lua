-- SPDX-License-Identifier: MIT
-- Tests of exed.http against exed.http.server in the same process. What only a server that lies can
-- show is in tests/functional/test_http_client.py.

local fiber = require "exed.fiber"
local http = require "exed.http"
local json = require "exed.json"
local left = require "left"
local server = require "exed.http.server"
local t = require "support"
local timer = require "exed.timer"

left.kept = "^socket:" -- connections that are kept for the next test, both ends of them

local seen = {} -- requests, in order
local sent = setmetatable({}, { __mode = "k" }) -- bytes of a body that were written, by request
local paths = {}

local srv = server.new { max_connections = 300, peer_connections = 300 }
assert(srv:listen "127.0.0.1:0")
local base = ("http://127.0.0.1:%d"):format(srv:port())

srv:serve(function(req)
  local headers = req.headers -- a request that is answered has none
  seen[#seen + 1] = {
    req = req, body = req.body, header = function(_, name) return headers[name] end,
  }
  local run = paths[req.path]
  if run then return run(req) end
  req:respond(404, { ["Content-Type"] = "application/json" }, '{"message":"no such path"}')
end)

local function last() return seen[#seen] end

-- Waits until fn() is true.
local function until_true(fn, what)
  local deadline = timer.now() + 20
  while not fn() do
    assert(timer.now() < deadline, what)
    timer.sleep(0.005)
  end
end

paths["/json"] = function(req)
  req:respond(200, { ["Content-Type"] = "application/json" }, '{"a":[1,2],"n":null}')
end

paths["/echo"] = function(req)
  req:respond(200, { ["X-Method"] = req.method, ["X-Twice"] = { "1", "2" } }, req.body)
end

paths["/error"] = function(req) req:respond(500, {}, "broken") end

paths["/away"] = function(req) req:respond(302, { Location = base .. "/json" }, "") end

paths["/hang"] = function() timer.sleep(60) end

-- So many bytes.
paths["/bytes"] = function(req)
  local n = tonumber(req.query.n[1])
  req:start(200, {})
  local piece = ("0123456789abcde\n"):rep(4096)
  while n > 0 do
    local part = piece:sub(1, math.min(n, #piece))
    if not req:write(part, 30) then return end
    n = n - #part
    sent[req] = (sent[req] or 0) + #part
  end
  req:finish()
end

t.test("an answer has status, headers, body and json", function()
  local answer = http.get(base .. "/json")
  t.eq(answer.status, 200)
  t.eq(answer.headers["content-type"], "application/json")
  t.eq(answer.body, '{"a":[1,2],"n":null}')
  t.eq(answer.json.a[2], 2)
  assert(answer.json.n == json.null and answer.json == answer.json)
  t.eq(answer.truncated, false)
end)

t.test("json is nil when the body is none", function()
  t.eq(http.get(base .. "/error").json, nil)
end)

t.test("500, 404 and 302 are answers", function()
  t.eq(http.get(base .. "/error").status, 500)
  t.eq(http.get(base .. "/nosuch").json.message, "no such path")
  local before = #seen
  local answer = http.get(base .. "/away")
  t.eq({ answer.status, answer.headers.location, #seen - before }, { 302, base .. "/json", 1 })
end)

t.test("methods and bodies arrive as given", function()
  for _, method in ipairs { "POST", "PUT", "PATCH", "DELETE" } do
    local answer = http.request(method, base .. "/echo", { body = "a\0b\r\n" })
    t.eq({ answer.status, answer.headers["x-method"], answer.body }, { 200, method, "a\0b\r\n" })
  end
  t.eq(http.request("OPTIONS", base .. "/echo").headers["x-method"], "OPTIONS")
  local answer = http.request("HEAD", base .. "/echo")
  t.eq({ answer.status, answer.body, answer.headers["x-method"] }, { 200, "", "HEAD" })
  t.eq(http.request(base .. "/echo").headers["x-method"], "GET")
  t.eq(http.post(base .. "/echo").body, "")
  t.eq(last():header "content-length", "0")
end)

t.test("a large body arrives whole", function()
  local body = ("x"):rep(3 << 20)
  local answer = http.post(base .. "/echo", { body = body })
  t.eq({ answer.status, #answer.body, answer.truncated }, { 200, 1 << 20, true })
  t.eq(#last().body, #body)
end)

t.test("json is encoded, with its type", function()
  t.eq(http.post(base .. "/echo", { json = { a = json.array {} } }).body, '{"a":[]}')
  t.eq(last():header "content-type", "application/json")
  http.post(base .. "/echo", { json = 1, headers = { ["Content-Type"] = "text/x" } })
  t.eq(last():header "content-type", "text/x")
end)

t.test("headers arrive, and nothing is added that was not asked for", function()
  http.get(base .. "/echo", {
    headers = { ["X-One"] = "a b", ["X-Two"] = { "1", "2" }, ["X-No"] = "", ["X-N"] = 5 },
  })
  t.eq(last():header "x-one", "a b")
  t.eq(last():header "x-two", "1, 2")
  t.eq(last():header "x-no", "")
  t.eq(last():header "x-n", "5")
  t.has(last():header "user-agent", "exed/")
  http.post(base .. "/echo", { body = ("x"):rep(2 << 20) })
  t.eq({ last():header "expect", last():header "content-type" }, {})
  t.eq(http.get(base .. "/echo").headers["x-twice"], "1, 2")
end)

t.test("userinfo in a URL becomes a login", function()
  http.get((base:gsub("//", "//user:p%%40ss@")) .. "/echo")
  t.eq(last():header "authorization", "Basic dXNlcjpwQHNz")
end)

t.test("over 1 MiB the body is cut and the rest is not read", function()
  local answer = http.get(base .. "/bytes?n=300000000")
  t.eq({ answer.status, #answer.body, answer.truncated, answer.json }, { 200, 1 << 20, true })
  assert((sent[last().req] or 0) < 100000000, "the rest was read")
  t.eq(http.get(base .. "/bytes?n=1048576").truncated, false)
end)

t.test("refused, and no such host: nil, err that names no more than the server", function()
  local answer, err = http.get "http://user:secret@127.0.0.1:1/path?token=secret"
  t.eq(answer, nil)
  t.eq({ err.code, err.sent, err.operation }, { "unreachable", false, "http.request" })
  t.has(err.message, "GET http://127.0.0.1:1: ")
  assert(not err.message:find "secret", err.message)
  answer, err = http.get "http://no.such.host.invalid/"
  t.eq({ answer, err.code }, { nil, "unreachable" })
  t.has(err.message, "no.such.host.invalid")
end)

t.test("a time limit says what did not come", function()
  local answer, err = http.get(base .. "/hang", { timeout = "200ms" })
  t.eq({ answer, err.code, err.sent }, { nil, "timeout", true })
  t.has(err.message, "no answer within 0.200 s")
end)

t.test("retries: only without an answer, and a POST only when nothing was sent", function()
  local function tries(method, path, opts)
    local before = #seen
    opts.timeout, opts.delay = opts.timeout or 0.1, "10ms"
    local _, err = http.request(method, base .. path, opts)
    return #seen - before, err and err.code
  end
  t.eq({ tries("GET", "/hang", { retries = 2 }) }, { 3, "timeout" })
  t.eq({ tries("POST", "/hang", { retries = 2 }) }, { 1, "timeout" })
  t.eq({ tries("POST", "/hang", { retries = 2, repeatable = true }) }, { 3, "timeout" })
  local keyed = { retries = 1, headers = { ["Idempotency-Key"] = "k" } }
  t.eq({ tries("POST", "/hang", keyed) }, { 2, "timeout" })
  t.eq({ tries("GET", "/error", { retries = 2, timeout = 20 }) }, { 1 })
end)

t.test("connections are kept, but not for what may not be repeated", function()
  local function opened(method)
    local before = srv:counts().accepted
    for _ = 1, 5 do http.request(method, base .. "/echo") end
    return srv:counts().accepted - before
  end
  http.get(base .. "/echo")
  t.eq({ opened "GET", opened "POST", opened "PUT" }, { 0, 5, 0 })
end)

t.test("100 requests at once, over at most 20 connections", function()
  local before, done, most = srv:counts().accepted, 0, 0
  for _ = 1, 100 do
    fiber.spawn("many", function()
      local answer, err = http.get(base .. "/json")
      assert(answer, err and err.message)
      t.eq(answer.json.a[1], 1)
      done = done + 1
    end)
  end
  until_true(function()
    most = math.max(most, srv:counts().open)
    return done == 100
  end, "they end")
  assert(srv:counts().accepted - before <= 20, srv:counts().accepted - before)
end)

t.test("a time limit holds while a request waits for a connection", function()
  local ended = 0
  for _ = 1, 20 do
    fiber.spawn("holds", function()
      http.get(base .. "/hang", { timeout = 2 })
      ended = ended + 1
    end)
  end
  local before = #seen
  until_true(function() return #seen - before >= 20 end, "all connections are in use")
  local _, err = http.get(base .. "/json", { timeout = 0.1 })
  t.eq({ err and err.code, err and err.sent }, { "timeout", false })
  t.has(err.message, "no connection within")
  until_true(function() return ended == 20 end, "the others end")
end)

t.test("cancel of the fiber ends the request", function()
  local before, closed = #seen, false
  paths["/left"] = function()
    local _ <close> = setmetatable({}, { __close = function() closed = true end })
    timer.sleep(60)
  end
  local handle = fiber.spawn("asks", function() http.get(base .. "/left") end)
  until_true(function() return #seen > before end, "the request arrives")
  handle:cancel "enough"
  until_true(function() return closed end, "the connection is closed")
end)

t.test("a stream has all bytes, in order", function()
  local stream <close> = assert(http.open("GET", base .. "/bytes?n=5000000"))
  t.eq(stream.status, 200)
  local size, text = 0, {}
  for _ = 1, 100000 do
    local piece, err = stream:read(30)
    assert(not err, err and err.message)
    if not piece then break end
    size = size + #piece
    text[#text + 1] = piece
  end
  t.eq(size, 5000000)
  assert(table.concat(text) == (("0123456789abcde\n"):rep(312500)), "bytes differ")
  t.eq({ stream:read() }, {})
end)

t.test("what is not read of a stream is not sent", function()
  local stream <close> = assert(http.open("GET", base .. "/bytes?n=200000000", { idle = "50ms" }))
  local req, before = last().req, -1
  until_true(function()
    if sent[req] == before then return true end
    before = sent[req]
    timer.sleep(0.2)
  end, "the server waits")
  assert(before < 40000000, before)
  assert(#stream:read(30) > 0)
  local n = 0
  until_true(function()
    n = n + #stream:read(30)
    return n > before
  end, "it goes on")
end)

t.test("lines of a stream", function()
  paths["/lines"] = function(req)
    req:start(200, {})
    for _, text in ipairs { "one\ntw", "o\n\nfour", "\nrest" } do
      req:write(text)
      timer.sleep(0.01)
    end
    req:finish()
  end
  local stream <close> = assert(http.open("GET", base .. "/lines"))
  local found = {}
  for line in stream:lines(20) do found[#found + 1] = line end
  t.eq(found, { "one", "two", "", "four" })
  t.eq(stream.failed, nil)
end)

t.test("a stream that is cut, or silent, says so", function()
  paths["/cut"] = function(req)
    req:start(200, {})
    req:write "begun"
    if req.query.hang then timer.sleep(60) end
    req:cut()
  end
  local stream <close> = assert(http.open("GET", base .. "/cut"))
  t.eq(stream:read(20), "begun")
  local piece, err = stream:read(20)
  t.eq({ piece, err.code, err.sent }, { nil, "unreachable", true })
  local silent <close> = assert(http.open("GET", base .. "/cut?hang=1", { idle = "100ms" }))
  t.eq(silent:read(20), "begun")
  piece, err = silent:read(20)
  t.eq({ piece, err.code }, { nil, "timeout" })
  local waits <close> = assert(http.open("GET", base .. "/cut?hang=1"))
  t.eq(waits:read(20), "begun")
  piece, err = waits:read(0.05)
  t.eq({ piece, err.code }, { nil, "timeout" })
end)

t.test("a stream's limit holds until its head, and not after", function()
  local stream, err = http.open("GET", base .. "/hang", { timeout = "100ms" })
  t.eq({ stream, err.code }, { nil, "timeout" })
  paths["/late"] = function(req)
    req:start(200, {})
    req:write "a"
    timer.sleep(0.4)
    req:write "b"
    req:finish()
  end
  local late <close> = assert(http.open("GET", base .. "/late", { timeout = "300ms" }))
  t.eq({ late:read(20), late:read(20) }, { "a", "b" })
end)

t.test("a stream that is closed ends its reader and its connection", function()
  local closed = false
  paths["/stays"] = function(req)
    req:start(200, {})
    req:write "a"
    local _ <close> = setmetatable({}, { __close = function() closed = true end })
    timer.sleep(60)
  end
  local stream = assert(http.open("GET", base .. "/stays"))
  t.eq(stream:read(20), "a")
  local code
  fiber.spawn("reads", function()
    local _, err = stream:read(20)
    code = err.code
  end)
  timer.sleep(0)
  timer.sleep(0)
  t.raises(function() stream:read(1) end, "another fiber")
  stream:close()
  stream:close()
  until_true(function() return code end, "the reader wakes")
  t.eq(code, "closed")
  until_true(function() return closed end, "the connection is closed")
  t.eq(select(2, stream:read()).code, "closed")
end)

t.test("what is wrong in a request raises, naming the field and the line", function()
  local function wrong(part, ...)
    local args = table.pack(...)
    t.raises(function() http.request(table.unpack(args, 1, args.n)) end, part)
  end
  local url = base .. "/echo"
  wrong("option timeot is not known, did you mean 'timeout'?", "GET", url, { timeot = 1 })
  wrong("option timeout: a duration", "GET", url, { timeout = "soon" })
  wrong("option retries: ", "GET", url, { retries = -1 })
  wrong("option repeatable: true or false", "GET", url, { repeatable = 1 })
  wrong("option headers: ", "GET", url, { headers = "x" })
  wrong("option headers: ", "GET", url, { headers = { x = true } })
  wrong("headers: a name", "GET", url, { headers = { ["a b"] = "c" } })
  wrong("headers: the value of X has control bytes", "GET", url, { headers = { X = "a\r\nB: c" } })
  wrong("headers: Content-Length is set", "GET", url, { headers = { ["Content-Length"] = "5" } })
  wrong("there is a body too", "POST", url, { body = "a", json = {} })
  wrong("option json: ", "POST", url, { json = print })
  wrong("body: HEAD has none", "HEAD", url, { body = "a" })
  wrong("method: GET, HEAD", "TRACE", url)
  wrong("method: GET, HEAD", "get", url)
  wrong("url: it must begin with http", "GET", "ftp://127.0.0.1/")
  wrong("url: it must begin with http", "GET", "file:///etc/passwd")
  wrong("url: ", "GET", "http://127.0.0.1:99999/")
  wrong("url: ", "GET", "http://a b/")
  wrong("url: ", "GET", "http://127.0.0.1/\r\nX: y")
  wrong("socket: an absolute path", "GET", url, { socket = "x" })
  t.raises(function() http.get() end, "url: text is wanted")
  t.raises(function() http.get(url, 5) end, "options: a table")
  t.raises(function() http.get "ftp://user:secret@x/" end, "http_test.lua")
  local err = t.raises(function() http.get "http://user:secret@x:y/" end, "url: ")
  assert(not tostring(err):find "secret", err)
end)

srv:close()
t.done()
