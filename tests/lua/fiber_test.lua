-- SPDX-License-Identifier: MIT
-- Tests of exed.fiber, as an author sees it.

local t = require "support"
local fiber = require "exed.fiber"
local timer = require "exed.timer"

t.test("a spawned fiber runs beside its maker and its handle knows", function()
  local order = {}
  local h = fiber.spawn("other", function(a, b)
    order[#order + 1] = a .. b
    timer.sleep(0.01)
    order[#order + 1] = "end"
  end, "x", "y")
  order[#order + 1] = "maker"
  assert(h:running())
  timer.sleep(0.05)
  t.eq(order, { "maker", "xy", "end" })
  assert(not h:running())
end)

t.test("a bounded call has its own budget, cannot wait, and harms nobody", function()
  t.eq({ fiber.bounded(1000, function(a, b) return a + b, "x" end, 1, 2) }, { true, 3, "x" })
  local ok, err = fiber.bounded(200000, function()
    while true do pcall(function() while true do end end) end
  end)
  t.eq(ok, false)
  t.has(err, "fiber_test.lua:")
  t.has(err, "ran 200000 instructions without waiting")
  ok, err = fiber.bounded(200000, function()
    local co = coroutine.wrap(function() while true do end end)
    while true do pcall(co) end
  end)
  t.eq(ok, false)
  t.has(err, "ran 200000 instructions without waiting")
  ok, err = fiber.bounded(1000, timer.sleep, 0)
  t.eq(ok, false)
  t.has(type(err) == "table" and err.message or err, "cannot wait")
  local n = 0
  for i = 1, 3000000 do n = n + i end -- more than those had
  t.eq(n, 4500001500000)
  timer.sleep(0)
  t.eq({ fiber.bounded(1000, error, "of my own", 0) }, { false, "of my own" })
end)

t.test("a cancel reaches what waits, with its reason", function()
  local seen
  local h = fiber.spawn("waits", function()
    local _ <close> = setmetatable({}, { __close = function(_, err) seen = err end })
    fiber.event():wait(60)
  end)
  timer.sleep(0.01)
  h:cancel "no longer wanted"
  timer.sleep(0.01)
  assert(not h:running())
  t.has(seen, "cancelled: no longer wanted")
end)

t.test("an event wakes all that wait, and each wait has its own limit", function()
  local event, woken = fiber.event(), 0
  for _ = 1, 3 do
    fiber.spawn("waits", function() if event:wait(10) then woken = woken + 1 end end)
  end
  local ok, err = event:wait(0.01)
  t.eq(ok, nil)
  t.eq(err.code, "timeout")
  t.eq(err.operation, "event.wait")
  event:notify()
  timer.sleep(0.01)
  t.eq(woken, 3)
end)

t.test("an error of one fiber is its own", function()
  fiber.spawn("dies as it should in this test", function() error "on purpose" end)
  timer.sleep(0.01)
  t.eq((fiber.count()), 1)
end)

t.test("coroutines work inside of a fiber, and cannot wait", function()
  local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
  t.eq({ gen(), gen(), gen() }, { 1, 2, 3 })
  t.raises(coroutine.wrap(function() timer.sleep(0) end), "only a fiber can wait")
  t.raises(coroutine.yield, "coroutine.yield outside of a coroutine")
  t.raises(function() table.sort({ 1, 2 }, function() timer.sleep(0) end) end, "cannot wait inside")
end)

t.test("waits work through pcall, xpcall, iterators and metamethods", function()
  local slow = setmetatable({}, { __index = function(_, k) timer.sleep(0.001) return k end })
  t.eq(slow.name, "name")
  t.eq({ xpcall(function(x) timer.sleep(0.001) return x end, debug.traceback, 5) }, { true, 5 })
  local function fails() timer.sleep(0) error({ 1 }) end
  t.eq(select(2, xpcall(fails, function(e) return e[1] end)), 1)
  t.raises(function() timer.sleep(0) error "late" end, "late")
end)

t.test("a limit ends the wait that it finds, and each later one, until it is taken back", function()
  local codes = {}
  local function wait()
    local ok, err = pcall(timer.sleep, 60)
    codes[#codes + 1] = ok or err.code
  end
  fiber.limit(0.01)
  wait()
  wait()
  fiber.limit(nil)
  timer.sleep(0)
  fiber.limit(60)
  fiber.limit(0.01)
  wait()
  fiber.limit(nil)
  t.eq(codes, { "timeout", "timeout", "timeout" })
end)

t.test("limits pass in their own order, and one that has ended its fiber harms no other", function()
  local order = {}
  local function start(name, seconds)
    fiber.spawn(name, function()
      fiber.limit(seconds)
      local _ <close> = setmetatable({}, { __close = function() order[#order + 1] = name end })
      if name == "ends" then return end
      pcall(timer.sleep, 60)
    end)
  end
  start("late", 0.1)
  start("early", 0.02)
  start("ends", 0.05)
  local deadline = timer.now() + 20
  while #order < 3 and timer.now() < deadline do timer.sleep(0.01) end
  t.eq(order, { "ends", "early", "late" })
end)

t.test("a fiber leaves nothing to the one that comes after it", function()
  local done, threads = 0, {}
  for i = 1, 100 do
    fiber.spawn("short", function(...)
      threads[coroutine.running()] = true
      assert(select("#", ...) == i % 3)
      if i % 10 == 0 then fiber.limit(0) end
      if i % 7 == 0 then error { message = "on purpose" } end
      done = done + 1
    end, table.unpack({ 1, 2 }, 1, i % 3))
    timer.sleep(0)
  end
  timer.sleep(0.01)
  t.eq(done, 100 - 14)
  local count = 0
  for _ in pairs(threads) do count = count + 1 end
  assert(count < 50, "no coroutine was used again")
end)

t.test("misuse raises", function()
  t.raises(function() fiber.spawn(nil, print) end, "string expected")
  t.raises(function() fiber.spawn("x", 1) end, "function expected")
  t.raises(function() fiber.event().wait({}) end, "exed.event expected")
end)

t.done()
