-- SPDX-License-Identifier: MIT
-- What authors of tasks are told of hosts, sets, operations, records and the environment, each line
-- a test on a rehearsal fleet.

local support = require "task_support"
local t = require "support"

local fleet_with, task = support.fleet, support.task
local value, problem = support.value, support.problem

local WEB <const> = {
  "web[01:04]", vars = function(name)
    return { rack = ({ web01 = "b", web02 = "a", web03 = "b" })[name], n = tonumber(name:sub(-1)) }
  end, groups = { prod = { "web01", "web03" } },
}

-- ---- hosts and sets -----------------------------------------------------------------------------

t.test("a host: name, address, vars, groups; one object for it", function()
  t.eq(value(WEB, [[
    local host = job:host "web01"
    local keys = { [host] = "found" }
    return { host.name, host.address, host.vars.rack, host.vars.no == nil, host.groups.prod,
      host.groups.db == nil, tostring(host), ("%s!"):format(host), host == job.hosts[1],
      keys[ job.hosts[1] ] }]]),
    { "web01", "web01", "b", true, true, true, "web01", "web01!", true, "found" })
end)

t.test("a host and a set cannot be changed", function()
  t.has(problem(WEB, "job.hosts[1].vars.rack = 'x'"), "tasks/x.lua:1: web01.vars: 'rack' cannot")
  t.has(problem(WEB, "job.hosts[1].groups.x = true"), "web01.groups: 'x' cannot be set")
  t.has(problem(WEB, "job.hosts[1].colour = 1"), "web01: a host's field 'colour' cannot be set")
  t.has(problem(WEB, "job.hosts[9] = 1"), "a set of hosts does not change")
  t.has(problem(WEB, "job.colour = 1"), "job.colour cannot be set")
  for _, field in ipairs { "name", "address", "vars", "groups" } do
    t.has(problem(WEB, ("job.hosts[1].%s = 'x'"):format(field)),
      ("tasks/x.lua:1: web01: a host's field '%s' cannot be set"):format(field))
  end
  for _, field in ipairs { "args", "jid", "who", "dry_run", "hosts", "targets", "node", "say" } do
    t.has(problem(WEB, ("job.%s = 'x'"):format(field)),
      ("tasks/x.lua:1: job.%s cannot be set"):format(field))
  end
  for _, code in ipairs { "job.hosts[1] = job.hosts[2]", "job.hosts.names = 1",
    "table.remove(job.hosts)",
    "table.sort(job.hosts, function(a, b) return a.name > b.name end)" } do
    t.has(problem(WEB, code), "a set of hosts does not change", code)
  end
  t.has(problem(WEB, "job.node.name = 'x'"), "cannot be set")
end)

t.test("vars and groups can be looped over, in order", function()
  t.eq(value(WEB, [[
    local keys = {}
    for key in pairs(job.hosts[1].vars) do keys[#keys + 1] = key end
    for key in pairs(job.hosts[1].groups) do keys[#keys + 1] = key end
    return keys]]), { "n", "rack", "all", "prod" })
end)

t.test("the job: hosts in order, targets, who, jid, args; a stranger raises", function()
  t.eq(value(WEB, [[
    local names = {}
    for i, host in ipairs(job.hosts) do names[i] = host.name end
    return { names, job.targets, #job.hosts, job.who, type(job.jid), job.dry_run, job.args }]]), {
    { "web01", "web02", "web03", "web04" }, { "web01", "web02", "web03", "web04" }, 4, "test",
    "string", false, {},
  })
  t.has(problem(WEB, "job:host 'db1'"), "tasks/x.lua:1: job:host: 'db1' is not a target")
end)

t.test("sets: match, filter, minus, has, names, each a new set", function()
  t.eq(value(WEB, [[
    local all = job.hosts
    local prod = all:match "prod"
    local rest = all:minus(prod)
    return { prod:names(), rest:names(), all:match("web0[1-3]:!prod"):names(),
      all:filter(function(host) return host.vars.n > 2 end):names(),
      prod:has(all[1]), rest:has(all[1]), #all, all:minus(all[2]):names() }]]), {
    { "web01", "web03" }, { "web02", "web04" }, { "web02" }, { "web03", "web04" }, true, false, 4,
    { "web01", "web03", "web04" },
  })
  t.has(problem(WEB, "job.hosts:match '~('"), "tasks/x.lua:1: set:match")
end)

t.test("by: in order of the value, hosts without it last", function()
  t.eq(value(WEB, [[
    local seen = {}
    for rack, hosts in job.hosts:by "rack" do
      seen[#seen + 1] = rack .. "=" .. tostring(hosts)
    end
    for n, hosts in job.hosts:by "n" do seen[#seen + 1] = n .. "=" .. #hosts end
    return seen]]), {
    "a=web02", "b=web01, web03", "=web04", "1=1", "2=1", "3=1", "4=1",
  })
end)

-- ---- operations ---------------------------------------------------------------------------------

t.test("status on success: CHANGED for what changes, OK for looks", function()
  t.eq(value({ "a" }, [[
    local host = job.hosts[1]
    local list = {
      host:execute "true", host:execute("true", { changes = false }), host:ping(), host:facter(),
      host:service { name = "nginx", state = "started", enable = true },
      host:deploy { role = "web", extra_vars = { a = 1 } }, host:wait_down { via = "icmp" },
      host:wait_up(), host:execute { "rm", "x y", timeout = "5s", changes = false },
    }
    local seen = {}
    for i, record in ipairs(list) do seen[i] = record.step .. " " .. record.status end
    return seen]]), {
    "execute CHANGED", "execute OK", "ping OK", "facter OK", "service CHANGED", "deploy CHANGED",
    "wait_down OK", "wait_up OK", "execute OK",
  })
end)

t.test("a record: its fields, and what a success has of them", function()
  local fleet = fleet_with({ "a" }, task [[
    local r = job.hosts[1]:execute("x", { step = "look", check = false, changes = false })
    return { r.host == job.hosts[1], r.step, r.status, r.ok, r.failed, r.error == nil, r.rtc,
      r.stdout, r.stderr, r.attempts, r.timed_out or false, tostring(r) }]])
  fleet:answer { op = "execute", stdout = "out\n", stderr = "err" }
  t.eq(fleet:run("x").value,
    { true, "look", "OK", true, false, true, 0, "out\n", "err", 1, false, "a: OK" })
end)

t.test("a host's operation that fails raises, with host, record and message", function()
  local fleet = fleet_with({ "a", "b" }, task [[
    local host = job.hosts[2]
    local _, err = job:try(function() host:execute "x" end)
    local _, lost = job:try(function() host:ping() end)
    return { err.code, err.host == host, err.record.rtc, err.message, tostring(err), lost.code,
      lost.record.status, err.record.ok, err.record.failed }]])
  fleet:answer { op = "execute", host = "b", status = "FAILED", rtc = 3, error = "exit code 3" }
  fleet:answer { op = "ping", host = "b", status = "UNREACHABLE", error = "no route" }
  local found = fleet:run("x").value
  t.eq({ found[1], found[2], found[3], found[6], found[7], found[8], found[9] },
    { "failed", true, 3, "failed", "UNREACHABLE", false, true })
  t.has(found[4], "exit code 3")
  t.eq(found[4], found[5])
end)

t.test("an uncaught failure ends the job, and says which host", function()
  local fleet = fleet_with({ "a", "b" }, task "job.hosts[1]:ping() job.hosts[2]:ping()")
  fleet:answer { host = "a", status = "UNREACHABLE", error = "no route" }
  local result = fleet:run "x"
  t.eq({ result.state, result.error.code, #result.steps }, { 2, "failed", 1 })
  t.has(result.error.message, "a")
  t.has(result.error.message, "no route")
  t.eq({ result.outcomes.a.status, result.outcomes.b.status }, { "UNREACHABLE", "SKIPPED" })
end)

t.test("check = false: the record instead; failed steps alone do not count", function()
  local fleet = fleet_with({ "a" }, task [[
    local first = job.hosts[1]:execute("x", { check = false })
    job.hosts[1]:record("CHANGED", "by the second way")
    return first.status]])
  fleet:answer { op = "execute", status = "FAILED" }
  local result = fleet:run "x"
  t.eq({ result.state, result.value, result.outcomes.a.text }, { 0, "FAILED", "by the second way" })
end)

t.test("a set's operation ends on all hosts, then raises with the results", function()
  local fleet = fleet_with(WEB, task [[
    local _, err = job:try(function() job.hosts:execute "x" end)
    local r = err.results
    local fine = job.hosts:execute("y", { max_failed = "50%" })
    return { err.code, #r, r.failed:names(), r.ok:names(), r.changed:names(),
      r.unreachable:names(), r.web02.status, r[ job.hosts[1] ].status, #fine.failed,
      r:where(function(record) return record.host.vars.n == 4 end):names() }]])
  fleet:answer { op = "execute", host = "web02", status = "FAILED" }
  fleet:answer { op = "execute", host = "web03", status = "UNREACHABLE" }
  local result = fleet:run "x"
  t.eq(result.value, { "failed", 4, { "web02", "web03" }, { "web01", "web04" },
    { "web01", "web04" }, { "web03" }, "FAILED", "CHANGED", 2, { "web04" } })
  t.eq(#result.steps, 8)
end)

t.test("retries: delay grows by backoff, only those that failed are asked again", function()
  local fleet = fleet_with({ "a", "b" }, task [[
    local began = job:now()
    local results = job.hosts:execute("x", { retries = 3, delay = 5, backoff = 3 })
    return { results.a.attempts, results.b.attempts, job:now() - began }]])
  fleet:answer { op = "execute", host = "b", status = "FAILED", times = 2 }
  local result = fleet:run "x"
  t.eq(result.value, { 1, 3, 1 + 5 + 1 + 15 + 1 })
  t.eq(#result.steps, 4)
  fleet = fleet_with({ "a" }, task [[
    return job.hosts[1]:execute("x", { retries = 1, check = false }).attempts]])
  fleet:answer { op = "execute", status = "FAILED" }
  t.eq(fleet:run("x").value, 2)
end)

t.test("wrong fields and options raise with file and line", function()
  for body, part in pairs {
    ["job.hosts[1]:execute('x', { tiemout = 3 })"] = "tasks/x.lua:1: execute: ",
    ["job.hosts[1]:execute('')"] = "execute wants a command",
    ["job.hosts[1]:execute({})"] = "the command is empty",
    ["job.hosts[1]:execute({ 'ls', {} })"] = "word 2 of the command must be text",
    ["job.hosts[1]:execute('x', { env = { ['a b'] = '1' } })"] = "'a b' is no name of a variable",
    ["job.hosts[1]:execute('x', { window = 3 })"] = "window",
    ["job.hosts[1]:execute('a\\0b')"] = "NUL",
    ["job.hosts[1]:execute('x', { cwd = 'here' })"] = "cwd",
    ["job.hosts[1]:service { name = 'x', state = 'up' }"] = "tasks/x.lua:1: service: ",
    ["job.hosts[1]:service { state = 'started' }"] = "'name' is missing",
    ["job.hosts[1]:wait_up { via = 'carrier pigeon' }"] = 'via must be "ssh", "icmp" or "tcp:PORT"',
    ["job.hosts[1]:ping({}, {})"] = "ping takes one table",
    ["job.hosts[1].ping()"] = "call it as host:ping(...)",
    ["job.hosts[1]:record('GOOD')"] = "record wants a status",
    ["job.node:execute 'ls'"] = "",
  } do
    if part ~= "" then t.has(problem({ "a" }, body), part, body) end
  end
  t.has(problem({ "a" }, "\n\n  job.hosts[1]:execute(7)"), "tasks/x.lua:3: execute wants")
end)

t.test("the nearest known name is offered", function()
  t.has(problem({ "a" }, "job.hosts[1]:execute('x', { tiemout = 3 })"), "timeout")
end)

t.test("what copy, fetch and restore refuse", function()
  local usage = {
    ["copy { dest = '/x' }"] = "one of src, content and template, got none",
    ["copy { dest = '/x', src = 'a', content = 'b' }"] = "got src and content",
    ["copy { dest = 'x', content = 'b' }"] = "an absolute path",
    ["copy { content = 'b' }"] = "'dest' is missing",
    ["copy { dest = '/x', content = 'b', mode = '8' }"] = "mode",
    ["copy { dest = '/x', content = 'b', vars = {} }"] = "vars are for a template",
    ["copy { dest = '/x', template = 'b', vars = { 1 } }"] = "name = value",
    ["copy { dest = '/x', content = 'b', dst = 1 }"] = "'dest'",
    ["fetch {}"] = "'src' is missing",
    ["fetch { src = '/x', max = 65537 }"] = "max",
    ["restore()"] = "restore wants the record of a copy",
  }
  for body, part in pairs(usage) do
    t.has(problem({ "a" }, "job.hosts[1]:" .. body), part, body)
  end
  t.has(problem({ "a" }, [[local h = job.hosts[1]
    h:restore(h:copy { dest = "/x", content = "b" })]]), "backup = true")
end)

t.test("a copy is sent as it was asked, and is put back from its record", function()
  local fleet = fleet_with({ "a", "b" }, task [[
    local kept = job.hosts:copy { dest = "/x", content = "b", backup = true, mode = "0600" }
    local back = job.hosts:restore(kept)
    return { kept[1].backup:match "^/x%.exed%-", kept[2].backup == nil, #back.changed } ]])
  fleet:answer { op = "copy", host = "a", status = "CHANGED", rtc = 11 }
  fleet:answer { op = "copy", host = "b", status = "OK" }
  local result = fleet:run "x"
  t.eq(result.error, nil)
  t.eq(result.value, { "/x.exed-", true, 1 })
  local steps = {}
  for i, step in ipairs(result.steps) do
    steps[i] = ("%s %s %s"):format(step.op, step.host, step.what)
  end
  t.eq(steps, { "copy a /x", "copy b /x", "restore a /x" }, "b is not asked")
end)

t.test("fetch gives the content", function()
  local fleet = fleet_with({ "a" }, task [[return job.hosts[1]:fetch({ src = "/x" }).content]])
  fleet:answer { op = "fetch", stdout = "text" }
  t.eq(fleet:run("x").value, "text")
end)

t.test("job.node takes execute only", function()
  local fleet = fleet_with({ "a" }, task [[
    return { job.node:execute({ "/bin/dns", "x" }).status, tostring(job.node) }]])
  local result = fleet:run "x"
  t.eq(result.value, { "CHANGED", "node" })
  t.eq({ result.steps[1].host, result.steps[1].what }, { "node", "/bin/dns x" })
  t.has(problem({ "a" }, "job.node:ping()"), "ping")
end)

-- ---- the environment ----------------------------------------------------------------------------

t.test("what differs on a resume is not there, and the error says what to do", function()
  for body, part in pairs {
    ["os.time()"] = "job:now()", ["os.clock()"] = "job:now()", ["math.random()"] = "job:random()",
    ["os.getenv 'HOME'"] = "job.args", ["io.open 'x'"] = "job.args", ["os.date()"] = "job:now()",
    ["collectgarbage()"] = "resume", ["setmetatable({}, { __mode = 'k' })"] = "weak",
    ["setmetatable({}, { __gc = print })"] = "__gc", ["string.format('%p', {})"] = "%p",
    ["require 'exed.redis'"] = "module 'exed.redis' is not there",
    ["for _ in pairs { [{}] = 1 } do end"] = "these have no order",
    ["coroutine.wrap(function() job.hosts:ping() end)()"] = "coroutine of your own",
  } do
    local found = problem({ "a" }, body)
    t.has(found, "tasks/x.lua:1:", body)
    t.has(found, part, body)
  end
end)

t.test("pairs goes in sorted order, sort is stable, tostring has no address", function()
  t.eq(value({ "a" }, [[
    local keys, list = {}, {}
    for key in pairs { b = 1, a = 1, [2] = 1, [1.5] = 1, [1] = 1, [true] = 1 } do
      keys[#keys + 1] = tostring(key)
    end
    for i = 1, 40 do list[i] = { i % 2, i } end
    table.sort(list, function(x, y) return x[1] < y[1] end)
    local sorted = true
    for i = 2, 40 do
      sorted = sorted and (list[i - 1][1] < list[i][1] or list[i - 1][2] < list[i][2])
    end
    return { keys, sorted, tostring {}, tostring(print), string.format("%s", {}) }]]), {
    { "1", "1.5", "2", "a", "b", "true" }, true, "table", "function", "table",
  })
end)

t.test("a Lua mistake keeps file and line and ends the job", function()
  local result = fleet_with({ "a" }, task "\n local x\n return x.y"):run "x"
  t.eq(result.state, 2)
  t.has(result.error.message, "tasks/x.lua:3: attempt to index")
end)

t.test("require lib.NAME: shared code, loaded once; others and loops are refused", function()
  local body = [[local a, b = require "lib.a", require "lib.a" return { a.n, a == b }]]
  local fleet = fleet_with({ "a" }, task(body), { ["lib.a"] = "return { n = 7 }" })
  t.eq(fleet:run("x").value, { 7, true })
  fleet = fleet_with({ "a" }, task(body), { ["lib.a"] = "return require 'lib.a'" })
  t.has(fleet:run("x").error.message, "lib.a requires itself")
  t.has(problem({ "a" }, "require 'lib.nothing'"), "lib.nothing is not there")
end)

t.test("nothing can be asked while a file is loaded", function()
  local fleet = fleet_with({ "a" }, [[require("exed.http").get "http://x/" return {}]])
  t.raises(function() fleet:run "x" end, "nothing can be asked while a file is loaded")
end)

t.test("json: text and back; what is no JSON is nil, err", function()
  t.eq(value({ "a" }, [[
    local none, err = json.decode "{"
    return { json.encode { 1, "a" }, json.decode('{"a":[1]}').a[1], none == nil, err ~= nil }]]),
    { '[1,"a"]', 1, true, true })
end)

t.test("run returns plain data of at most 64 KiB", function()
  t.eq(value({ "a" }, "return { a = { 1, 'x' } }"), { a = { 1, "x" } })
  t.has(problem({ "a" }, "return print"), "no plain data")
  t.has(problem({ "a" }, "return ('x'):rep(70000)"), "at most 65536")
end)

t.done()
