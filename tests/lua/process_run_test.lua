-- SPDX-License-Identifier: MIT
-- One process for many hosts, with a made-up store: nothing is started before its hosts may start,
-- and every host has one record however it ends.

local fiber = require "exed.fiber"
local json = require "exed.json"
local run = require "exed.process.run"
local t = require "support"
local timer = require "exed.timer"

local dir = os.tmpname()
os.remove(dir)

local NAMES <const> = { "web01", "web02", "web03" }

-- A run of that command. on(name, ...) answers for the store.
local function new(command, changes, on)
  local seen = { marks = 0, records = {} }
  local node = {
    dir = { path = function() return dir end }, membership = { permitted = math.huge },
    store = { insist = function(_, name, ...)
      local args = table.pack(...)
      if name == "mark" then seen.marks = seen.marks + 1 end
      if on then
        local answer, err = on(name, seen, args)
        if answer ~= nil or err then return answer or nil, err end
      end
      if name == "append" then
        for at = 1, #args[6], 5 do
          local index, kind, status, _, text = table.unpack(args[6], at, at + 4)
          if kind == "record" then
            assert(not seen.records[index], "a second record")
            seen.records[index] = json.decode(text)
            seen.records[index].seconds, seen.records[index].started = nil, nil
            t.eq(seen.records[index].status, status)
          end
        end
      end
      return { 0, 0, 0, "", 0 }
    end },
  }
  local group = { hosts = {}, indexes = {}, found = {} }
  for i, name in ipairs(NAMES) do
    group.indexes[i] = i - 1
    group.found[i] = {
      name = name, address = "10.0.0." .. i, vars = { n = i }, groups = { web = true },
    }
  end
  local made = {
    op = "job" .. tostring(timer.now()) .. ".0", command = command, verdict = {}, timeout = 0,
    output_cap = 1000, process = { hosts_file = "names" },
  }
  for name, value in pairs(changes or {}) do made[name] = value end
  local work = { jid = "j", k = 0, epoch = 1, effect = 0 }
  return run.start(node, work, made, group, false), seen, node
end

local function in_fiber(one)
  local done = fiber.event()
  local answer
  fiber.spawn("run", function()
    answer = table.pack(one:wait())
    done:notify()
  end)
  return function()
    local deadline = timer.now() + 30
    while not answer do
      assert(timer.now() < deadline, "it does not end")
      done:wait(0.5)
    end
    return table.unpack(answer, 1, answer.n)
  end
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local ALL <const> = [[while read -r h; do printf '{"host":"%s","status":"OK"}\n' $h >&3; done ]]
  .. [[<"$EXED_HOSTS_FILE"]]

t.test("each host has what the process says of it, the others are failures", function()
  local one, seen = new([[cat; pwd; echo "$A $EXED_WINDOW $EXED_OP" >&2
    echo '{"host":"web03","status":"CHANGED","n":3}' >&3; echo nonsense >&3; exit 4]],
    { env = { "A=1" }, window = 7, stdin = "in\n", cwd = "/", op = "opid.0" })
  t.eq(one:wait(), 0)
  t.eq(seen.marks, 1)
  t.eq(seen.records[2], { status = 5, n = 3 })
  for i = 0, 1 do
    t.eq(seen.records[i].status, 3)
    t.has(seen.records[i].error, "its process ended with code 4 and said nothing of this host")
    t.has(seen.records[i].error, "line 2: no JSON")
    t.has(seen.records[i].error, "in\n/\n1 7 opid.0.process.0.1")
  end
  t.eq(exists(dir .. "/process/j.0.0/hosts"), false)
end)

t.test("hosts are handed over as names, or as JSON", function()
  local one, seen = new(ALL)
  t.eq(one:wait(), 0)
  t.eq({ seen.records[0], seen.records[2] }, { { status = 1 }, { status = 1 } })
  one, seen = new([[sed 's/.*"name":\("[^"]*"\).*/{"host":\1,"status":1,"line":&}/' ]]
    .. [["$EXED_HOSTS_FILE" >&3]], { process = { hosts_file = "json-lines" } })
  t.eq(one:wait(), 0)
  t.eq(seen.records[1], { status = 1, line = {
    name = "web02", address = "10.0.0.2", port = 22, groups = { "web" }, vars = { n = 2 },
    user = seen.records[1].line and seen.records[1].line.user,
  } })
end)

t.test("its files are its owner's only, and gone at the end", function()
  local one = new [[stat -c %a "$EXED_HOSTS_FILE" "${EXED_HOSTS_FILE%/*}" >&2; exit 1]]
  one:wait()
  t.eq(exists(dir .. "/process/j.0.0"), false)
  local again, seen = new [[stat -c %a "$EXED_HOSTS_FILE" "${EXED_HOSTS_FILE%/*}" >&2; exit 1]]
  again:wait()
  t.has(seen.records[0].error, "600\n700")
end)

t.test("nothing is started before the started bits are set", function()
  local mark = dir .. "/ran"
  local one, seen = new(("touch '%s'; "):format(mark) .. ALL, nil, function(name)
    if name ~= "mark" then return end
    timer.sleep(0.3)
    t.eq(exists(mark), false)
  end)
  t.eq(one:wait(), 0)
  t.eq({ exists(mark), seen.marks, seen.records[0].status }, { true, 1, 1 })
  os.remove(mark)
end)

t.test("nothing is started without permission; bits that were set before it lapsed are set again",
  function()
    local mark = dir .. "/ran"
    local one, seen, node = new(("touch '%s'; "):format(mark) .. ALL, nil, function(name, known)
      if name == "mark" and known.marks == 1 then timer.sleep(0.4) end
    end)
    node.membership.permitted = 0
    local wait = in_fiber(one)
    timer.sleep(0.5)
    t.eq({ seen.marks, exists(mark) }, { 0, false })
    node.membership.permitted = timer.now() + 0.3
    timer.sleep(1)
    t.eq({ seen.marks, exists(mark), one:waiting() }, { 1, false, 3 })
    node.membership.permitted = timer.now() + 1000
    t.eq(wait(), 0)
    t.eq({ seen.marks, exists(mark), seen.records[0].status }, { 2, true, 1 })
    os.remove(mark)
  end)

t.test("while it is paused nothing is started", function()
  local one, seen = new(ALL)
  one:pause(true)
  local wait = in_fiber(one)
  timer.sleep(0.4)
  t.eq({ seen.marks, one:waiting() }, { 0, 3 })
  one:pause(false)
  t.eq(wait(), 0)
  t.eq(seen.records[0].status, 1)
end)

t.test("hosts of another owner are not touched, and nothing is written of them", function()
  local mark = dir .. "/ran"
  local one, seen = new(("touch '%s'"):format(mark), nil, function(name)
    if name == "mark" then return nil, { code = "refused", message = "an old epoch" } end
  end)
  local answer, err = one:wait()
  t.eq({ answer, err.code, exists(mark), next(seen.records) }, { nil, "refused", false })
end)

t.test("a job that was stopped meanwhile starts nothing", function()
  local mark = dir .. "/ran"
  local one, seen = new(("touch '%s'"):format(mark), nil, function(name)
    if name == "mark" then return nil, { code = "stopped", message = "cancelled" } end
  end)
  t.eq(one:wait(), 0)
  t.eq({ exists(mark), seen.records[1] }, { false, { status = 2, error = "cancelled" } })
end)

t.test("a node that ends starts nothing, and hands its hosts back", function()
  local one, seen = new(ALL)
  one:drain()
  t.eq({ one:wait(), seen.marks, next(seen.records) }, { 3, 0 })
end)

local STUCK <const> = [[echo '{"host":"web01","status":"OK"}' >&3; (sleep 600 & sleep 600) & wait]]

t.test("a cancel kills all of it; what it had said stays", function()
  local one, seen = new(STUCK)
  local wait = in_fiber(one)
  while not seen.records[0] do timer.sleep(0.02) end
  t.eq(#one:running(10), 2)
  one:cancel "cancelled"
  t.eq(wait(), 0)
  t.eq(seen.records[0], { status = 1 })
  t.eq({ seen.records[1].status, seen.records[1].cancelled, seen.records[1].killed,
    seen.records[1].survivors, seen.records[1].error }, { 3, true, true, 0, "cancelled" })
end)

t.test("over its time limit all of it is killed", function()
  local one, seen = new(STUCK, { timeout = 1 })
  t.eq(one:wait(), 0)
  t.eq(seen.records[0], { status = 1 })
  t.eq({ seen.records[2].status, seen.records[2].rtc, seen.records[2].timed_out,
    seen.records[2].killed, seen.records[2].survivors, seen.records[2].error },
    { 3, 124, true, true, 0, "time limit" })
end)

t.test("one that dies leaves hosts of which nobody knows", function()
  local one, seen = new [[echo '{"host":"web01","status":"OK"}' >&3; kill -9 $PPID; sleep 600]]
  t.eq(one:wait(), 0)
  t.eq(seen.records[0], { status = 1 })
  t.eq({ seen.records[1].status, seen.records[1].unknown }, { 3, true })
  t.has(seen.records[1].error, "its process was ended by signal KILL")
end)

t.test("one that says nothing but nonsense is ended", function()
  local one, seen = new("yes nonsense >&3")
  t.eq(one:wait(), 0)
  t.has(seen.records[0].error, "too many of its lines are no records")
  t.has(seen.records[0].error, "line 1: no JSON")
end)

t.test("given up, it is killed, and nothing more is written", function()
  local one, seen = new(STUCK)
  local wait = in_fiber(one)
  while not seen.records[0] do timer.sleep(0.02) end
  one:abandon()
  local answer, err = wait()
  t.eq({ answer, err.code, seen.records[1] }, { nil, "closed" })
end)

t.test("what a lost node left of it is found by its op and killed", function()
  local made = { op = "lost" .. tostring(timer.now()) .. ".0" }
  local program = require "exed.program"
  local child <close> = program.start {
    argv = { "/bin/sh", "-c", "setsid sleep 600 & wait" }, op = made.op .. ".process.0.1",
  }
  timer.sleep(0.2)
  run.sweep({ jid = "j", k = 0 }, made)
  local deadline = timer.now() + 10
  while not child:ended() and timer.now() < deadline do timer.sleep(0.05) end
  t.eq(child:ended() ~= nil, true)
end)

os.execute(("rm -rf '%s'"):format(dir))
t.done()
