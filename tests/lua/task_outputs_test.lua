-- SPDX-License-Identifier: MIT
-- Records as a fan-out gives them, in the form that a task's answer has.

local json = require "exed.json"
local outputs = require "exed.tasks.outputs"
local t = require "support"

local function record(mask, data)
  return json.decode(json.encode { outputs.record(7, mask, data) })[1]
end

t.test("a short record goes into the answer as it is", function()
  local data = '{"status":5,"rtc":0,"stdout":"a\\n","stderr":"b","seconds":0.25}'
  t.eq(record(0, data), {
    i = 7, status = 5, rtc = 0, stdout = "a\n", stderr = "b", seconds = 0.25,
  })
end)

t.test("output that a command did not write is empty, also where its text looks like a name",
  function()
    local data = '{"status":3,"rtc":2,"stderr":"\\"stdout\\":","error":"exit code 2"}'
    t.eq(record(0, data), {
      i = 7, status = 3, rtc = 2, stdout = "", stderr = '"stdout":', error = "exit code 2",
    })
  end)

t.test("a record without a command has no output", function()
  t.eq(record(0, '{"status":4,"error":"no route"}'), { i = 7, status = 4, error = "no route" })
end)

t.test("what is in parts, or is no text, is left to be fetched or is left out", function()
  local data = '{"status":5,"rtc":0,"stdout_bytes":70000,"stderr":"e"}'
  t.eq(record(1, data), {
    i = 7, status = 5, rtc = 0, stdout_bytes = 70000, stderr = "e", truncated = true,
  })
  t.eq(record(4, '{"status":5,"rtc":0,"stdout":"?","stdout_b64":"/w=="}').stdout_b64, nil)
end)

t.test("a long record is as one that is read from the store", function()
  local long = ("x"):rep(8000)
  local found = record(0, '{"status":5,"rtc":0,"stdout":"' .. long .. '"}')
  t.eq({ found.i, found.stdout, found.stderr }, { 7, long, "" })
  long = ("x"):rep(65 << 10)
  t.eq(record(0, '{"status":5,"rtc":0,"stdout":"' .. long .. '"}').stdout, nil)
end)

t.done()
