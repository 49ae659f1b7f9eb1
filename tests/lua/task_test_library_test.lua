-- SPDX-License-Identifier: MIT
-- exed.test: each line of its table, and that surviving is not said of a task that does not.

local test = require "exed.test"
local sys = require "exed.sys"
local support = require "task_support"
local t = require "support"

local fleet_with, task = support.fleet, support.task

local ROLL <const> = task [[
  each.window(job.hosts, { size = 2, max_failed = 1 }, function(host)
    job:defer(function() host:execute("restore", { step = "restore" }) end)
    host:execute("drain", { step = "drain" })
    host:service { name = "nginx", state = "restarted" }
    host:say "done"
  end)
  return { n = #job.hosts }]]

t.test("fleet: ranges, vars of all or by name, groups", function()
  local fleet = fleet_with({ "web[01:03]", "db1", vars = function(name)
    return { rack = name:sub(-1) }
  end, groups = { prod = { "web01", "db1" } } }, task [[
    for _, host in ipairs(job.hosts) do
      host:record("OK", host.vars.rack .. tostring(host.groups.prod))
    end]])
  local outcomes = fleet:run("x").outcomes
  t.eq(outcomes.web01, { status = "OK", text = "1true" })
  t.eq(outcomes.web03.text, "3nil")
  t.eq(outcomes.db1.text, "1true")
  t.raises(function() test.fleet { "web[01:" } end, "web[01:")
  t.eq(fleet_with({ "a", vars = { rack = "r" } }, task "return job.hosts[1].vars.rack")
    :run("x").value, "r")
end)

t.test("run: args are checked, targets are a pattern, and everything succeeds", function()
  local fleet = fleet_with({ "web[01:04]" }, task([[job.hosts:ping()
    return job.args.n + #job.hosts]], "{ n = { 'integer', required = true } }"))
  local result = fleet:run("x", { args = { n = 40 }, targets = "web[01:02]" })
  t.eq({ result.state, result.value, result.error }, { 0, 42, nil })
  t.eq(result.outcomes.web02.status, "OK")
  t.eq(result.outcomes.web03, nil)
  t.raises(function() fleet:run("x") end, "'n' is missing")
  t.raises(function() fleet:run("y") end, "no such file")
end)

t.test("steps: key, op, host, what, at, in the order in which they begin", function()
  local result = fleet_with({ "web[01:03]" }, ROLL):run("x")
  local lines = {}
  for i, step in ipairs(result.steps) do
    lines[i] = ("%s %s %s %s %g"):format(step.key, step.op, step.host, step.what, step.at)
  end
  t.eq(table.move(lines, 1, 5, 1, {}), {
    "/1/web01#1 execute web01 drain 0", "/1/web02#1 execute web02 drain 0",
    "/1/web01#2 service web01 nginx restarted 1", "/1/web02#2 service web02 nginx restarted 1",
    "/1/web01#4 execute web01 restore 2",
  })
  t.eq(lines[7], "/1/web03#1 execute web03 drain 3")
  t.eq(result.said, { "web01: done", "web02: done", "web03: done" })
  t.eq({ result.value, result.seconds }, { { n = 3 }, 6 })
end)

t.test("answer: by op, host, what; the newest that fits counts; so many times", function()
  local fleet = fleet_with({ "web[01:03]" }, task [[
    for _, host in ipairs(job.hosts) do
      for i = 1, 2 do
        local record = host:execute("try " .. i, { check = false })
        host:say("%s %s %s", record.status, record.rtc, record.stdout)
      end
    end]])
  fleet:answer { op = "execute", host = "web0[12]", stdout = "older" }
  fleet:answer { op = "execute", host = "web02", what = "try 2", status = "FAILED", rtc = 9 }
  fleet:answer { op = "service", status = "FAILED" }
  fleet:answer { host = "web03", times = 1, status = "UNREACHABLE", error = "no route" }
  local said = fleet:run("x").said
  t.eq(said, {
    "web01: CHANGED 0 older", "web01: CHANGED 0 older", "web02: CHANGED 0 older",
    "web02: FAILED 9 ", "web03: UNREACHABLE nil ", "web03: CHANGED 0 ",
  })
  t.eq(fleet:run("x").said, said, "another run begins anew")
end)

t.test("answer: reply is asked with the host and the fields", function()
  local fleet = fleet_with({ "web[01:02]" }, task [[
    return job.hosts[2]:execute({ "echo", "x" }, { env = { A = "b" } }).stdout]])
  fleet:answer { op = "execute", reply = function(host, fields)
    return { stdout = host.name .. fields.argv[2] .. fields.env.A, rtc = 0 }
  end }
  t.eq(fleet:run("x").value, "web02xb")
end)

t.test("answer: facts, and how long it takes", function()
  local fleet = fleet_with({ "web[01:02]" }, task [[
    local facts = job.hosts:facter()
    return { facts.web02.facts.memory, job:now() }]])
  fleet:answer { op = "facter", facts = { memory = 7 }, seconds = 90 }
  local before = fleet_with({ "a" }, task "return job:now()"):run("x").value
  t.eq(fleet:run("x").value, { 7, before + 90 })
end)

t.test("http: by a pattern of the URL, a function, no answer; 200 when nothing is said", function()
  local fleet = fleet_with({ "a" }, task [[
    local said = {}
    for i, url in ipairs { "http://x/a", "http://x/b", "http://x/c", "http://x/d" } do
      local answer, err = http.get(url)
      said[i] = answer and answer.status .. answer.body or err.code
    end
    return said]])
  fleet:http("/a$", { status = 503, body = "busy" })
  fleet:http("/b$", function(url, args) return { status = 200, body = args.method .. url } end)
  fleet:http("/c$", function() return nil end)
  local result = fleet:run("x")
  t.eq(result.value, { "503busy", "200GEThttp://x/b", "failed", "200" })
  t.eq({ result.steps[1].op, result.steps[1].what }, { "http", "GET http://x/a" })
end)

t.test("approve: yes when nothing is said, no, or nobody", function()
  local fleet = fleet_with({ "a" }, task [[
    local yes, err = job:try(function()
      return job:await_approval { message = "go on?", timeout = "1h" }
    end)
    return { err and err.code or yes.note or "yes", job:now() }]])
  local began = fleet_with({ "a" }, task "return job:now()"):run("x").value
  t.eq(fleet:run("x").value[1], "yes")
  fleet:approve { approved = true, who = "ada", note = "fine" }
  t.eq(fleet:run("x").value[1], "fine")
  fleet:approve { approved = false, who = "ada" }
  t.eq(fleet:run("x").value[1], "denied")
  fleet:approve { timeout = true }
  t.eq(fleet:run("x").value, { "timeout", began + 3600 })
end)

t.test("cancel_at: what runs is cancelled, what was taken is put back", function()
  local result = fleet_with({ "web[01:04]" }, ROLL):run("x", { cancel_at = 2 })
  t.eq({ result.state, result.error.code }, { 2, "cancelled" })
  local left = {}
  for _, step in ipairs(result.steps) do
    local change = step.step == "drain" and 1 or step.step == "restore" and -1 or 0
    left[step.host] = (left[step.host] or 0) + change
  end
  t.eq(left, { web01 = 0, web02 = 0 })
  t.eq(result.outcomes.web04.status, "SKIPPED")
end)

t.test("kill_at: a node that dies at one event, or at several, changes nothing", function()
  local fleet = fleet_with({ "web[01:04]" }, ROLL)
  local whole = fleet:run("x")
  for _, at in ipairs { 1, 5, { 2, 3, 4 }, { 7, 20, 21 } } do
    local result = fleet:run("x", { kill_at = at })
    t.eq({ result.state, result.outcomes, #result.steps }, { 0, whole.outcomes, #whole.steps })
  end
end)

t.test("survives: kills at every kind of event, and checks of the author's own", function()
  local fleet, results = fleet_with({ "web[01:06]" }, ROLL), 0
  fleet:answer { op = "service", host = "web02", status = "FAILED", error = "no" }
  local told = fleet:survives("x", {}, function(result)
    results = results + 1
    assert(result.outcomes.web02.status == "FAILED")
  end)
  t.eq(results, told.runs + 1)
  assert(told.runs > 1 and told.events > 60, told.events)
  t.raises(function()
    fleet:survives("x", {}, function(result) assert(#result.steps == 0, "my own check") end)
  end, "my own check")
end)

t.test("survives fails when a task acts on what the journal does not know", function()
  -- The module is the same table in each life here: what is left in it is no part of the journal.
  local fleet = fleet_with({ "web[01:02]" }, task [[
    local json = require "exed.json"
    json.lives = (json.lives or 0) + 1
    for _, host in ipairs(job.hosts) do host:execute("life " .. json.lives) end]])
  t.raises(function() fleet:survives("x") end, "x does not survive kills from event 1 on")
  require("exed.json").lives = nil
end)

t.test("survives fails when the source is another one after the kill", function()
  local loads = 0
  local fleet = fleet_with({ "web[01:02]" }, function()
    loads = loads + 1
    local body = "job.hosts:execute 'first' job.hosts:execute 'load %d'"
    return task(body:format(loads > 4 and 2 or 1))
  end)
  t.raises(function() fleet:survives("x") end, "does not survive kills")
end)

t.test("survives fails when a step that may not be repeated is", function()
  local fleet = fleet_with({ "a" }, task "job.hosts:execute('once', { repeatable = true })")
  fleet:survives("x")
  -- The same, but nothing says that it may be repeated: the world settles it, so it must be once.
  fleet = fleet_with({ "a" }, task "job.hosts:execute 'once'")
  fleet:survives("x")
  local forgets = fleet_with({ "a" }, task "job.hosts:execute 'once'")
  local world = require "exed.task.world"
  local execute = world.execute
  world.execute = function(self, effect, _, done) return execute(self, effect, false, done) end
  local ok, err = pcall(forgets.survives, forgets, "x")
  world.execute = execute
  t.eq(ok, false)
  t.has(err, "done 2 times: #1 a once")
end)

t.test("branches: each combination of success and failure of the named steps", function()
  local fleet = fleet_with({ "a" }, task [[
    local host = job.hosts[1]
    for _, method in ipairs { "ssh", "ipmi" } do
      if job:try(function() host:execute("reset", { step = method }) end) then
        return host:record("CHANGED", method)
      end
    end
    host:record("FAILED", "no method worked")]])
  local seen = {}
  local results = fleet:branches("x", {}, { "ssh", "ipmi" }, function(result)
    seen[#seen + 1] = ("%s%s: %s"):format(result.failed.ssh and "-" or "+",
      result.failed.ipmi and "-" or "+", result.outcomes.a.text)
  end)
  t.eq(seen, { "++: ssh", "-+: ipmi", "+-: ssh", "--: no method worked" })
  t.eq({ #results, results[4].state }, { 4, 2 })
  t.eq(fleet:run("x").outcomes.a.text, "ssh", "nothing is left of it")
end)

t.test("the clock is virtual: a day passes at once", function()
  local began = os.clock()
  local result = fleet_with({ "a" }, task "job:sleep '1d' return job:now()"):run("x")
  t.eq(result.seconds, 86400)
  assert(os.clock() - began < 5)
end)

t.test("what a task prints is kept apart", function()
  t.eq(fleet_with({ "a" }, task "print('x', 1, {})"):run("x").printed, { "x\t1\ttable" })
end)

t.test("a task that waits for nothing that comes is an error, not a hang", function()
  t.raises(function() fleet_with({ "a" }, task "coroutine.yield()"):run("x") end, "never comes")
end)

local function cost(hosts)
  local fleet = test.fleet {
    ("web[0001:%04d]"):format(hosts), dir = sys.share() .. "/tasks", vars = { rack = "a" },
  }
  local began = os.clock()
  local result = fleet:run("rolling_restart", { args = { service = "nginx", size = 50 } })
  t.eq({ result.state, #result.steps }, { 0, 4 * hosts })
  return os.clock() - began
end

t.test("a rolling restart on 1,000 hosts takes under a second of the processor", function()
  local small, large = cost(100), cost(1000)
  if large >= 1 and not os.getenv "EXED_SANITIZER" then error(("%.2f s"):format(large)) end
  if large > 30 * small and not os.getenv "TORTURE_GC" then
    error(("%.3f s for 100, %.3f s for 1,000"):format(small, large))
  end
end)

t.done()
