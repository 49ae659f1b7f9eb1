-- SPDX-License-Identifier: MIT
-- What a process says of its hosts: good lines become records; a wrong one is told, and harms no
-- other host.

local json = require "exed.json"
local lines = require "exed.process.lines"
local t = require "support"

local function new(changes)
  local run = {
    work = { jid = "j", k = 0 }, writer = {}, by_name = {},
    made = { output_cap = 20, verdict = {}, process = { judges = false, calm = false } },
  }
  for i, name in ipairs { "web01", "web02" } do
    run.by_name[name] = { name = name, index = i, phase = "running" }
  end
  for name, value in pairs(changes or {}) do run.made[name] = value end
  return lines.new(run), run
end

-- The record of a line of web01.
local function record(line, changes)
  local found = assert((new(changes)):take(line), line)
  t.eq(found.host.name, "web01")
  local entries = found.record:entries(found.status)
  return json.decode(entries[#entries]), found.status
end

for name, number in pairs { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 } do
  t.test("a status by name and by number: " .. name, function()
    t.eq(record(('{"host":"web01","status":"%s","error":"e"}'):format(name)),
      { status = number, error = "e" })
    t.eq(record(('{"host":"web01","status":%d}'):format(number)).status, number)
  end)
end

t.test("what else a line has is in the record", function()
  t.eq(record [[{"host":"web01","status":"OK","rtc":0,"stdout":"o","stderr":"e",
    "disk":{"used":[1,2.5]},"note":"n"}]], {
    status = 1, rtc = 0, stdout = "o", stderr = "e", disk = { used = { 1, 2.5 } }, note = "n",
  })
end)

t.test("without a status its exit code is judged, if the plan has a verdict", function()
  local judged = { verdict = { [0] = 5, default = 3 }, process = { judges = true } }
  t.eq(record('{"host":"web01","rtc":0}', judged), { status = 5, rtc = 0 })
  t.eq(record('{"host":"web01","rtc":7,"error":"x"}', judged),
    { status = 3, rtc = 7, error = "x" })
  t.has(record('{"host":"web01","rtc":0}').error, "status must be OK")
end)

t.test("what only looks has changed nothing", function()
  t.eq(record('{"host":"web01","status":"CHANGED"}', { process = { calm = true } }).status, 1)
end)

t.test("a failure always has a reason", function()
  t.eq(record('{"host":"web01","status":3}').error, "its process says no more than that")
end)

t.test("output is cut at the cap", function()
  t.eq(record(('{"host":"web01","status":1,"stdout":"%s"}'):format(("x"):rep(30))),
    { status = 1, truncated = true, stdout_bytes = 30, stdout = ("x"):rep(20) })
end)

t.test("secrets are masked, and a host's name is not", function()
  local got = record('{"host":"web01","status":1,"stdout":"a web01 b","x":{"y":"web01"}}',
    { hidden = { "web01" } })
  t.eq(got, { status = 1, stdout = "a *** b", x = { y = "***" } })
end)

for _, case in ipairs {
  { '{"host":"web01"}', "status must be OK, CHANGED, SKIPPED, FAILED or UNREACHABLE, got nil" },
  { '{"host":"web01","status":"GOOD"}', "got 'GOOD'" },
  { '{"host":"web01","status":0}', "got 0" },
  { '{"host":"web01","status":-1}', "got -1" },
  { '{"host":"web01","status":1.0}', "" },
  { '{"host":"web01","status":null}', "status must be" },
  { '{"host":"web01","status":1,"seconds":5}', "the field 'seconds' is exed's own" },
  { '{"host":"web01","status":1,"killed":true}', "the field 'killed' is exed's own" },
  { '{"host":"web01","status":1,"return_data":1}', "the field 'return_data' is exed's own" },
  { '{"host":"web01","status":1,"rtc":"0"}', "rtc must be an integer" },
  { '{"host":"web01","status":1,"error":5}', "error must be a string" },
  { '{"host":"web01","status":1,"stdout":["x"]}', "stdout must be a string" },
} do
  t.test("a wrong line fails its host: " .. case[1], function()
    local got = record(case[1])
    if case[2] == "" then return t.eq(got.status, 1) end
    t.eq(got.status, 3)
    t.has(got.error, "the line of its process: ")
    t.has(got.error, case[2])
  end)
end

for _, case in ipairs {
  { "no json at all", "line 1: no JSON: " }, { "", "line 1: no JSON: " },
  { "[1]", "line 1: no JSON object" }, { "5", "line 1: no JSON object" },
  { '{"status":1}', "line 1: it names no host" }, { '{"host":5,"status":1}', "names no host" },
  { '{"host":"db01","status":1}', "line 1: 'db01' is no host of this run" },
  { '{"host":"\\u001b[2Jx","status":1}', "'?[2Jx' is no host of this run" },
  { '{"host":"web01","status":1,"status":3}', "no JSON: " },
  { '{"host":"web01","status":1,"x":"\xff"}', "no JSON: " },
  { '{"host":"web01\0","status":1}', "no JSON: " }, { "\0", "no JSON: " },
  { '{"host":"web01","status":1', "no JSON: " },
  { '{"host":"web01","status":1,"x":' .. ("["):rep(100) .. ("]"):rep(100) .. "}", "64 levels" },
  { '{"host":"web01","status":1,"x":[' .. ("1,"):rep(20000) .. "1]}", "more than 20000 values" },
  { '{"host":"web01","status":1,"x":"' .. ("x"):rep(lines.MAX) .. '"}',
    "longer than 262144 bytes" },
} do
  t.test("a line of no host is told, and no host suffers: " .. case[1]:sub(1, 40), function()
    local found, run = new()
    t.eq(found:take(case[1]), nil)
    t.has(found:wrong(), case[2])
    t.eq(found:take('{"host":"web01","status":1}').status, 1)
    t.eq(run.by_name.web02.phase, "running")
  end)
end

t.test("a host that comes twice keeps its first record", function()
  local found, run = new()
  t.eq(found:take('{"host":"web01","status":1}').status, 1)
  run.by_name.web01.phase = "done" -- as the writer does
  t.eq(found:take('{"host":"web01","status":3}'), nil)
  t.eq(found:wrong(), "line 2: 'web01' has its record already")
end)

t.test("of many wrong lines a few are told", function()
  local found = new()
  for _ = 1, 50 do found:take "x" end
  t.has(found:wrong(), "line 3: no JSON")
  t.has(found:wrong(), "; and 47 more")
  t.eq(found.count, 50)
end)

t.done()
