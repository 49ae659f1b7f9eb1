-- SPDX-License-Identifier: MIT
-- Tests of fenced plans of exed.fanout (runtime/host_fence.c), with commands on this machine.

local t = require "support"
local fanout = require "exed.fanout"
local json = require "exed.json"
local proc = require "exed.proc"
local timer = require "exed.timer"

local dir = os.getenv "TMPDIR" or "/tmp"
local place = dir .. "/fences " .. tostring(os.time())

local jobs = 0

-- A plan of its own job, counted in the file `<op>.starts`.
local function plan(command, more)
  jobs = jobs + 1
  local p = {
    transport = "local", command = 'echo x >>"$D/$EXED_OP.starts"; ' .. command, group = "test",
    verdict = { [0] = 5, default = 3 }, op = "job" .. jobs .. ".0", fence = true,
    fence_dir = place, env = { "D=" .. dir },
  }
  for key, value in pairs(more or {}) do p[key] = value end
  return p
end

local function start(p, host)
  return assert(fanout.start(p, { fanout.host(host or { name = "here" }) }, { 4 }))
end

-- The one record.
local function record(run)
  local found
  while true do
    local list, err = run:next(20)
    assert(not err, err and err.message)
    if not list then return found end
    for _, entry in ipairs(list) do
      if entry.kind == "record" then found = json.decode(entry.data) end
    end
  end
end

local function starts(p)
  local file = io.open(("%s/%s.4.1.starts"):format(dir, p.op))
  if not file then return 0 end
  local text = file:read "a"
  file:close()
  return #text // 2
end

local function left(p, name)
  local file = io.open(("%s/%s.4.1/%s"):format(place, p.op, name))
  if file then file:close() end
  return file ~= nil
end

local function settling(p)
  local copy = {}
  for key, value in pairs(p) do copy[key] = value end
  copy.settle_until = timer.now() + 20
  return copy
end

t.test("a fenced command is recorded as any other", function()
  for _, quiet in ipairs { false, true } do
    local p = plan("cat; printf 'o\\0'; echo e >&2; exit 4", { stdin = "in ", quiet = quiet })
    local r = record(start(p))
    t.eq(r.status, 3)
    t.eq(r.rtc, 4)
    t.eq(r.stdout, "in o\0")
    t.eq(r.stderr, "e\n")
    t.eq(r.unknown, nil)
    t.eq(left(p, "rc.4"), true)
  end
end)

t.test("run again it tells the first end", function()
  local p = plan "echo $$"
  local first, second = record(start(p)), record(start(settling(p)))
  t.eq(second.stdout, first.stdout)
  t.eq(second.status, 5)
  t.eq(starts(p), 1)
end)

t.test("run again while it runs it joins", function()
  local p = plan 'echo a; while [ ! -e "$D/go" ]; do sleep .02; done; echo b; exit 7'
  local first = start(p)
  while not left(p, "pid") do timer.sleep(.02) end
  local second = start(settling(p))
  timer.sleep(.3)
  io.open(dir .. "/go", "w"):close()
  for _, r in ipairs { record(first), record(second) } do
    t.eq(r.rtc, 7)
    t.eq(r.stdout, "a\nb\n")
  end
  t.eq(starts(p), 1)
end)

t.test("what died is failed and unknown, with what it had said", function()
  local p = plan 'echo half; kill -9 $PPID; sleep .1'
  for _, r in ipairs { record(start(p)), record(start(settling(p))) } do
    t.eq(r.status, 3)
    t.eq(r.unknown, true)
    t.eq(r.rtc, nil)
    t.eq(r.stdout, "half\n")
    t.eq(r.error, "died: it was started and left no exit code")
  end
  t.eq(starts(p), 1)
end)

t.test("without a place nothing runs, and the record says why", function()
  local p = plan("true", { fence_dir = "/dev/null/x" })
  local r = record(start(p))
  t.eq(r.status, 3)
  t.eq(r.rtc, nil)
  t.eq(r.unknown, nil)
  assert(r.error:find("^no place for the fence: .*mkdir"), r.error)
  t.eq(starts(p), 0)
  r = record(start(plan("true", { fence_dir = "not/absolute" })))
  t.eq(r.status, 3)
  assert(r.error:find("fence_dir", 1, true), r.error)
end)

t.test("a host's own directory comes first", function()
  local p = plan("true", { fence_dir = "/dev/null/x" })
  t.eq(record(start(p, { name = "here", fence_dir = place })).status, 5)
  t.eq(left(p, "rc.0"), true)
end)

t.test("where the command cannot begin it is certain that nothing ran", function()
  local p = plan("true", { command = "true", cwd = dir .. "/no-such" })
  local r = record(start(p))
  t.eq(r.unknown, nil)
  t.eq(left(p, "pid"), false)
end)

t.test("a limit kills a fenced command, and what comes later does not take it for alive", function()
  local p = plan("echo a; sleep 100 & wait", { timeout = .5 })
  local r = record(start(p))
  t.eq(r.timed_out, true)
  t.eq(r.killed, true)
  t.eq(r.survivors, 0)
  t.eq(r.stdout, "a\n")
  r = record(start(settling(p)))
  t.eq(r.unknown, true)
  t.eq(starts(p), 1)
end)

t.test("a cancel kills a fenced command", function()
  local p = plan "echo a; sleep 100"
  local run = start(p)
  while not left(p, "pid") do timer.sleep(.02) end
  run:cancel "enough"
  local r = record(run)
  t.eq(r.cancelled, true)
  t.eq(r.survivors, 0)
end)

t.test("a daemon does not hold up a quiet command", function()
  local p = plan("sleep 3 & echo started", { quiet = true })
  local begun = timer.now()
  local r = record(start(p))
  t.eq(r.stdout, "started\n")
  t.eq(r.output_open, nil)
  assert(timer.now() - begun < 2.5)
  timer.sleep(math.max(0, 3.2 - (timer.now() - begun)))
end)

proc.run({ "rm", "-rf", place })
t.done()
