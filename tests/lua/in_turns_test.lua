-- SPDX-License-Identifier: MIT
-- Work on many values: as if done at once, and others run in between.

local fiber = require "exed.fiber"
local in_turns = require "exed.in_turns"
local json = require "exed.json"
local t = require "support"
local timer = require "exed.timer"

-- How often another fiber ran while fn did.
local function count_turns(fn)
  local turns, done = 0, false
  local other = fiber.spawn("other", function()
    while not done do
      turns = turns + 1
      timer.sleep(0)
    end
  end)
  local result = fn()
  done = true
  while other:running() do timer.sleep(0) end
  return turns, result
end

t.test("sorted is what sort makes, of the first ones only", function()
  for _, n in ipairs { 0, 1, 2, 1999, 2000, 2001, 6000, 10007 } do
    local names, wanted = {}, {}
    for i = 1, n do names[i] = ("host%d"):format(i * 7919 % 5003) end
    table.move(names, 1, n, 1, wanted)
    table.sort(wanted)
    names[n + 1] = "a" -- behind those that are asked for
    t.eq(in_turns.sorted(names, n), wanted)
    t.eq(#names, n + 1)
    if n > 1 then t.eq(names[1], "host2916") end
  end
end)

t.test("json is the list's JSON", function()
  for _, n in ipairs { 0, 1, 200, 201, 1000 } do
    local list = {}
    for i = 1, n do list[i] = { i } end
    t.eq(in_turns.json(n, function(i) return list[i] end), json.encode(json.array(list)))
  end
end)

t.test("others get a turn", function()
  local names = {}
  for i = 1, 10000 do names[i] = tostring(i) end
  local turns = count_turns(function() return in_turns.sorted(names, #names) end)
  assert(turns >= 5, turns)
  turns = count_turns(function() return in_turns.json(1000, function(i) return i end) end)
  assert(turns >= 5, turns)
end)

t.done()
