-- SPDX-License-Identifier: MIT
-- Work on thousands of values, some in each turn of the loop, so that nobody waits for all of it.
--
--   in_turns.sorted(names, count)     a new list: the first `count` names, sorted
--   in_turns.json(count, value)       a JSON list of value(1) .. value(count): text

local json = require "exed.json"
local timer = require "exed.timer"

local in_turns = {}

local NAMES <const> = 2000 -- sorted or merged in a turn: about a millisecond
local VALUES <const> = 200 -- made and encoded in a turn

-- One sorted list of two.
local function merge(a, b)
  local merged, i, j = {}, 1, 1
  for k = 1, #a + #b do
    if j > #b or i <= #a and a[i] <= b[j] then
      merged[k], i = a[i], i + 1
    else
      merged[k], j = b[j], j + 1
    end
    if k % NAMES == 0 then timer.sleep(0) end
  end
  return merged
end

function in_turns.sorted(names, count)
  local runs = {}
  for first = 1, count, NAMES do
    local run = table.move(names, first, math.min(first + NAMES - 1, count), 1, {})
    table.sort(run)
    runs[#runs + 1] = run
    timer.sleep(0)
  end
  while #runs > 1 do table.insert(runs, merge(table.remove(runs, 1), table.remove(runs, 1))) end
  return runs[1] or {}
end

function in_turns.json(count, value)
  local texts = {}
  for i = 1, count do
    texts[i] = json.encode(value(i))
    if i % VALUES == 0 then timer.sleep(0) end
  end
  return "[" .. table.concat(texts, ",") .. "]"
end

return in_turns
