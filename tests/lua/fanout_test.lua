-- SPDX-License-Identifier: MIT
-- Tests of exed.fanout with commands on this machine.

local t = require "support"
local fanout = require "exed.fanout"
local json = require "exed.json"
local timer = require "exed.timer"

local function hosts(n)
  local list = {}
  for i = 1, n do list[i] = fanout.host { name = "host" .. i } end
  return list
end

local function plan(command, more)
  local p = { transport = "local", command = command, verdict = { [0] = 1 }, group = "test" }
  for key, value in pairs(more or {}) do p[key] = value end
  return p
end

-- All entries, by kind.
local function collect(run)
  local records, parts = {}, {}
  while true do
    local list, err = run:next(20)
    assert(not err, err and err.message)
    if not list then return records, parts end
    for _, entry in ipairs(list) do
      if entry.kind == "part" then
        parts[#parts + 1] = entry
      else
        assert(not records[entry.index], "two records")
        records[entry.index] = json.decode(entry.data)
        t.eq(records[entry.index].status, entry.status)
      end
    end
  end
end

t.test("each host has one record, by the index it was given", function()
  local p = plan("echo $EXED_OP", { op = "j.0", try = 3 })
  local run = assert(fanout.start(p, hosts(4), { 7, 8, 9, 11 }))
  local records = collect(run)
  for _, index in ipairs { 7, 8, 9, 11 } do
    t.eq(records[index].stdout, ("j.0.%d.3\n"):format(index))
    t.eq(records[index].rtc, 0)
  end
  t.eq(run:wait(1), 0)
end)

t.test("verdicts judge exit codes", function()
  local codes = { [0] = 1, [4] = 5, default = 4 }
  for code, status in pairs { [0] = 1, [4] = 5, [9] = 4 } do
    local records = collect(fanout.start(plan("exit " .. code, { verdict = codes }), hosts(1)))
    t.eq(records[0].status, status)
    t.eq(records[0].rtc, code)
  end
end)

t.test("stdin, environment and directory reach the command", function()
  local p = plan("cat; echo $X; pwd", { stdin = "a\0b\n", env = { "X=y z" }, cwd = "/usr" })
  t.eq(collect(fanout.start(p, hosts(1)))[0].stdout, "a\0b\ny z\n/usr\n")
end)

t.test("long output comes in parts", function()
  local p = plan "head -c 200000 /dev/zero | tr '\\0' x"
  local records, parts = collect(fanout.start(p, hosts(1)))
  t.eq(records[0].stdout, nil)
  t.eq(records[0].stdout_bytes, 200000)
  local length = 0
  for _, part in ipairs(parts) do
    t.eq(part.offset, length)
    t.eq(part.stream, 1)
    length = length + #part.data
  end
  t.eq(length, 200000)
end)

t.test("next has a limit, and running tells who holds it up", function()
  local run = fanout.start(plan "sleep 60", hosts(2))
  local list, err = run:next(0.1)
  t.eq(list, nil)
  t.eq(err.code, "timeout")
  local running = run:running(10)
  t.eq(#running, 2)
  t.eq(running[1].phase, "running")
  run:cancel "enough"
  local records = collect(run)
  assert(records[0].cancelled and records[1].cancelled)
  t.eq(records[0].survivors, 0)
end)

t.test("drain leaves hosts unstarted, and abandon says nothing of any", function()
  local run = fanout.start(plan("sleep 0.1", { window = 1 }), hosts(5))
  timer.sleep(0.05)
  run:drain()
  t.eq(run:wait(20), 4)
  run = fanout.start(plan("sleep 0.1", { window = 1 }), hosts(5))
  timer.sleep(0.05)
  run:abandon()
  local count, err = run:wait(20)
  t.eq(count, nil)
  t.eq(err.code, "closed")
end)

t.test("wait without a sink drops what nobody took", function()
  local run = fanout.start(plan "head -c 200000 /dev/zero", hosts(3))
  t.eq(run:wait(20), 0)
  t.eq(run:next(1), nil)
end)

t.test("a run that nobody holds ends by itself", function()
  fanout.start(plan "sleep 60", hosts(3))
  timer.sleep(0.05)
  collectgarbage()
  collectgarbage()
  for _ = 1, 400 do
    if fanout.counts().running == 0 then break end
    timer.sleep(0.05)
  end
  t.eq(fanout.counts().fanouts, 0)
end)

t.test("a list is as long as it is, not as its __len says", function()
  local function odd(list, length)
    return setmetatable(list, { __len = function() return length end })
  end
  local p = plan("echo $X", { env = odd({ "X=1" }, -2), hidden = odd({}, 1) })
  t.eq(collect(fanout.start(p, odd(hosts(1), 2)))[0].stdout, "1\n")
end)

t.test("misuse raises and names the field", function()
  t.raises(function() fanout.start(plan(5 == 5), hosts(1)) end, "field command")
  t.raises(function() fanout.start(plan "a\0b", hosts(1)) end, "field command: it has a NUL byte")
  local function refuses(more, what)
    t.raises(function() fanout.start(plan("x", more), hosts(1)) end, what)
  end
  refuses({ transport = "pigeon" }, "field transport")
  refuses({ env = { 5 } }, "field env")
  for _, limit in ipairs { math.huge, -math.huge, 0 / 0, 1e9 } do
    refuses({ timeout = limit }, "field timeout: a number of seconds is wanted, below 1e9")
    t.raises(function() fanout.start(plan "x", hosts(1), nil, nil, { { timeout = limit } }) end,
      "own: timeout: a number of seconds is wanted, below 1e9")
  end
  t.raises(function() fanout.start({ command = "x" }, hosts(1)) end, "field verdict")
  t.raises(function() fanout.host {} end, "field name is missing")
  local jump = fanout.host { name = "jump" }
  getmetatable(jump).__close(jump)
  t.raises(function() fanout.host { name = "inner", jump = jump } end,
    "field jump: the host is closed")
  local kept
  do
    local run <close> = fanout.start(plan "true", hosts(1))
    kept = run
  end
  t.raises(function() kept:next() end, "closed")
end)

t.done()
