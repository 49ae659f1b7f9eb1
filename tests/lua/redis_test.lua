-- SPDX-License-Identifier: MIT
-- Tests of exed.redis and exed.redis_child, with a private redis-server.

local fiber = require "exed.fiber"
local proc = require "exed.proc"
local redis = require "exed.redis"
local redis_child = require "exed.redis_child"
local timer = require "exed.timer"
local t = require "support"
local test = t.test

local dir = assert(proc.run { "mktemp", "-d" }).stdout:gsub("\n$", "")
local child = assert(redis_child.start(dir, "redis-server", 64 << 20, 20))

local LIBRARY <const> = [[#!lua name=exed_1
local REVISION = 1
redis.register_function("exed_1_version", function() return REVISION end)
redis.register_function("exed_1_echo", function(_, args) return args end)
redis.register_function("exed_1_fail", function(_, args) return redis.error_reply(args[1]) end)
]]

local function connect(options)
  options = options or {}
  options.url = child:url()
  local conn = assert(redis.connect(options))
  assert(conn:ready(10))
  return conn
end

test("replies become Lua's values", function()
  local conn = connect()
  t.eq(conn:call("SET", "k", "a\0b"), "OK")
  t.eq(conn:call("GET", "k"), "a\0b")
  t.eq(conn:call("INCRBY", "n", math.maxinteger), math.maxinteger)
  local value, err = conn:call("GET", "none")
  assert(value == nil and err == nil)
  t.eq(conn:call("MGET", "k", "none"), { "a\0b", false })
  t.eq(conn:call("EVAL", "return {1, {2, {'x'}}}", 0), { 1, { 2, { "x" } } })
  conn:close()
end)

test("a list among the arguments is put in its place", function()
  local conn = connect()
  t.eq(conn:call("DEL", "l"), 0)
  t.eq(conn:call("RPUSH", "l", { "a", 2 }, "c", {}), 3)
  t.eq(conn:call("LRANGE", "l", 0, -1), { "a", "2", "c" })
  local many = {}
  for i = 1, 5000 do many[i] = i end
  t.eq(conn:call("RPUSH", "l", many), 5003)
  conn:close()
end)

test("what redis does not take is an error of the caller", function()
  local conn = connect()
  for _, bad in ipairs { 1.5, true, function() end, { 1, {} }, { false } } do
    t.raises(function() conn:call("SET", "k", bad) end, "a string, an integer or a list of them")
  end
  t.raises(function() conn:call() end, "string expected")
  conn:close()
  t.raises(function() conn:call "PING" end, "was closed")
end)

test("an error reply is nil and an err with its first word as code", function()
  local conn <close> = connect { library = LIBRARY }
  local value, err = conn:fcall("exed_1_fail", 'CONFLICT {"h":["j"]}')
  assert(value == nil)
  t.eq(err, { code = "conflict", message = '{"h":["j"]}', operation = "redis.fcall" })
  local long = ("x"):rep(100000)
  value, err = conn:fcall("exed_1_fail", "FULL " .. long)
  assert(value == nil and err.code == "full" and err.message == long)
  value, err = conn:call "NOSUCH"
  assert(value == nil and err.code == "err")
  t.has(err.message, "unknown command")
end)

test("fcall loads the functions again when the server has lost them", function()
  local conn <close> = connect { library = LIBRARY }
  t.eq(conn:fcall("exed_1_echo", "a", { 1, 2 }), { "a", "1", "2" })
  t.eq(conn:call("FUNCTION", "FLUSH"), "OK")
  t.eq(conn:fcall("exed_1_echo", "b"), { "b" })
  t.eq(conn:call("FUNCTION", "FLUSH"), "OK")
  local value, err = conn:call("FCALL", "exed_1_echo", 0) -- a plain call is not sent again
  assert(value == nil and err.code == "away")
  assert(conn:ready(5))
end)

test("a call whose functions are lost waits for no redis that is gone", function()
  local conn <close> = connect { library = LIBRARY }
  local socket = child:url():match "@(/.*)$"
  local ended, code = fiber.event(), nil
  t.eq(conn:call("FUNCTION", "FLUSH"), "OK")
  assert(proc.run({ "mv", socket, socket .. ".away" }).code == 0)
  fiber.spawn("call", function()
    local _, err = conn:fcall("exed_1_echo", "a")
    code = err and err.code or "none"
    ended:notify()
  end)
  local in_time = ended:wait(20)
  assert(proc.run({ "mv", socket .. ".away", socket }).code == 0)
  assert(in_time)
  t.eq(code, "away")
  assert(conn:ready(10))
  t.eq(conn:fcall("exed_1_echo", "b"), { "b" })
end)

test("calls of many fibers go side by side", function()
  local conn <close> = connect()
  local left, done = 200, fiber.event()
  conn:call("DEL", "n")
  for _ = 1, left do
    fiber.spawn("incr", function()
      for _ = 1, 10 do assert(conn:call("INCR", "n")) end
      left = left - 1
      if left == 0 then done:notify() end
    end)
  end
  assert(done:wait(20))
  t.eq(conn:call("GET", "n"), "2000")
end)

test("a time limit is an err and the connection goes on", function()
  local conn <close> = connect()
  t.eq(conn:call("CLIENT", "PAUSE", 300, "ALL"), "OK")
  local value, err = conn:call({ timeout = 0.05 }, "GET", "k")
  assert(value == nil and err.code == "timeout")
  t.eq(conn:call({ timeout = 5 }, "PING"), "PONG")
end)

test("a fiber that is ended lets its call go", function()
  local conn <close> = connect()
  conn:call("CLIENT", "PAUSE", 200, "ALL")
  local went_on = false
  local handle = fiber.spawn("call", function()
    conn:call "PING"
    went_on = true
  end)
  timer.sleep(0.02)
  handle:cancel "test"
  timer.sleep(0.02)
  assert(not handle:running() and not went_on)
  t.eq(conn:call "PING", "PONG")
end)

test("closing ends what waits", function()
  local conn = connect()
  conn:call("CLIENT", "PAUSE", 200, "ALL")
  local codes, done = {}, fiber.event()
  local sub = assert(conn:subscribe "news")
  local function collect(fn)
    fiber.spawn("wait", function()
      local _, err = fn()
      codes[#codes + 1] = err and err.code or "none"
      if #codes == 2 then done:notify() end
    end)
  end
  collect(function() return conn:call "PING" end)
  collect(function() return sub:next(5) end)
  timer.sleep(0.02)
  conn:close()
  conn:close()
  assert(done:wait(5))
  t.eq(codes, { "closed", "closed" })
end)

test("a subscription hears, and says when it may have missed something", function()
  local conn <close> = connect()
  local sub <close> = assert(conn:subscribe "news")
  t.eq(sub:next(5), "")
  t.eq(conn:call("PUBLISH", "news", "one"), 1)
  t.eq(conn:call("PUBLISH", "news", "two"), 1)
  t.eq(sub:next(5), "one")
  t.eq(sub:next(5), "two")
  local text, err = sub:next(0.02)
  assert(text == nil and err.code == "timeout")
  conn:call("CLIENT", "KILL", "TYPE", "pubsub")
  t.eq(sub:next(5), "")
  conn:call("PUBLISH", "news", "three")
  t.eq(sub:next(5), "three")
  for i = 1, 1500 do conn:call("PUBLISH", "news", i) end
  timer.sleep(0.05)
  t.eq(sub:next(5), "") -- too many waited: they are forgotten, and that is said
  local heard, last
  repeat
    last, heard = heard, sub:next(0.1)
  until not heard
  t.eq(last, "1500")
  sub:close()
  text, err = sub:next(1)
  assert(text == nil and err.code == "closed")
end)

test("an address that is wrong, or where nobody is, is an err", function()
  local conn, err = redis.connect "rediss://localhost"
  assert(conn == nil and err.code == "invalid")
  conn = assert(redis.connect("unix://" .. dir .. "/nobody.sock"))
  local ready
  ready, err = conn:ready(0.1)
  assert(not ready and err.code == "timeout")
  local value
  value, err = conn:call "PING"
  assert(value == nil and err.code == "away")
  t.has(err.message, "nobody.sock")
  local up, why = conn:up()
  assert(up == false)
  t.has(why, "nobody.sock")
  conn:close()
  conn = assert(redis.connect((child:url():gsub(":%x+@", ":wrong@"))))
  ready, err = conn:ready(5)
  assert(not ready and err.code == "refused")
  assert(not err.message:find "wrong")
  conn:close()
end)

test("calls are away while the server is, and work after", function()
  local conn <close> = connect()
  assert(conn:call("SET", "kept", "yes"))
  local pid = child:pid()
  assert(proc.run { "kill", "-9", tostring(pid) })
  local until_ms = timer.now() + 10
  local value, err
  repeat
    value, err = conn:call "PING"
    timer.sleep(0.01)
  until not value or timer.now() > until_ms
  assert(err.code == "away" or err.code == "unreachable", err.code)
  assert(conn:ready(10))
  t.eq(conn:call("GET", "kept"), "yes")
  assert(child:pid() ~= pid)
end)

test("a private server is stopped within seconds that there are", function()
  for _, seconds in ipairs { -1, math.huge, 0 / 0 } do
    t.raises(function() child:stop(seconds) end, "seconds, not negative")
  end
  t.raises(function() child:stop() end, "number expected")
end)

child:stop(10)
proc.run { "rm", "-rf", dir }
t.done()
