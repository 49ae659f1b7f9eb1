-- SPDX-License-Identifier: MIT
-- Tests of exed.timer.

local t = require "support"
local timer = require "exed.timer"

t.test("sleep lasts as long as it says", function()
  local start = timer.now()
  t.eq(timer.sleep(0.05), true)
  local took = timer.now() - start
  assert(took >= 0.045 and took < 5, took)
end)

t.test("sleep of nothing lets others run", function()
  local ran = false
  require("exed.fiber").spawn("other", function() ran = true end)
  timer.sleep(0)
  timer.sleep(0)
  assert(ran)
end)

t.test("wall is the time of day", function()
  assert(math.abs(timer.wall() - os.time()) < 3)
end)

t.test("misuse raises with the line of the caller", function()
  t.raises(function() timer.sleep(-1) end, "not negative")
  t.raises(function() timer.sleep(0 / 0) end, "seconds")
  t.raises(function() timer.sleep "soon" end, "number expected")
  t.raises(function() timer.sleep(-1) end, "timer_test.lua")
end)

t.done()
