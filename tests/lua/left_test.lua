-- SPDX-License-Identifier: MIT
-- What a test leaves makes it fail (support.lua and left.lua), and is named.

local fiber = require "exed.fiber"
local left = require "left"
local program = require "exed.program"
local t = require "support"
local timer = require "exed.timer"

-- A test of its own, whose failures are not ours: what it printed, and how it ended.
local function try(fn)
  local said = {}
  local inner = assert(loadfile(package.searchpath("support", package.path), "t",
    setmetatable({ print = function(text) said[#said + 1] = text end }, { __index = _G })))()
  local ending = left.ending
  left.ending = 0.2
  inner.test("inner", fn)
  left.ending = ending
  return table.concat(said, "\n"), inner.failed
end

t.test("a test that leaves nothing passes", function()
  local said, failed = try(function()
    local handle = fiber.spawn("short", function() timer.sleep(10) end)
    handle:cancel() -- which ends at another turn
    io.open("/dev/null") -- and nobody has it any more
  end)
  t.eq({ said, failed }, { "", 0 })
end)

t.test("a fiber and its wait are named with their lines", function()
  local handle
  local said, failed = try(function()
    handle = fiber.spawn("forgotten", function() timer.sleep(10) end)
  end)
  handle:cancel()
  t.eq(failed, 1)
  t.has(said, "it left 1 fibers and 1 waits more")
  t.has(said, "left_test.lua:34), now at tests/lua/left_test.lua:34, waits in timer.sleep")
end)

t.test("a descriptor is named", function()
  local file
  local said, failed = try(function() file = assert(io.open "/dev/zero") end)
  file:close()
  t.eq(failed, 1)
  t.has(said, "it left 1 more: descriptor: /dev/zero")
end)

t.test("a child is named", function()
  local child
  local said, failed = try(function()
    child = assert(program.start { argv = { "sleep", "100" }, op = "left" })
  end)
  if child then child:kill() end
  while child and not child:ended() do timer.sleep(0.01) end
  t.eq(failed, 1)
  t.has(said, "it left 1 more: child: sleep")
end)

t.done()
