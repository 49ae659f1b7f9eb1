-- SPDX-License-Identifier: MIT
-- The job's functions and exed.http, each line of their table, on a rehearsal fleet.

local support = require "task_support"
local t = require "support"

local fleet_with, task, value, problem = support.fleet, support.task, support.value, support.problem

local function steps(result)
  local list = {}
  for i, step in ipairs(result.steps) do list[i] = step.what end
  return table.concat(list, " ")
end

t.test("defer: last first, when run ends; also after a failure, an abort, a cancel", function()
  local body = [[
    job:defer(function() job.hosts:execute "b1" end)
    job.hosts:execute "a"
    job:defer(function() job.hosts:execute "b2" end)
    %s]]
  for last, state in pairs {
    [""] = 0, ["error 'x'"] = 2, ["job:abort 'enough'"] = 2, ["job.hosts:execute 'bad'"] = 2,
  } do
    local fleet = fleet_with({ "a" }, task(body:format(last)))
    fleet:answer { what = "bad", status = "FAILED" }
    local result = fleet:run "x"
    t.eq(result.state, state, last)
    t.eq((steps(result):gsub("bad ", "")), "a b2 b1", last)
  end
  local result = fleet_with({ "a" }, task(body:format "job:sleep(100) job.hosts:execute 'never'"))
    :run("x", { cancel_at = 2 })
  t.eq({ result.error.code, steps(result) }, { "cancelled", "a b2 b1" })
end)

t.test("a failing defer makes the job a failure and is added to the reason", function()
  local fleet = fleet_with({ "a" }, task [[
    job:defer(function() job.hosts:execute "back" end)
    job:defer(function() error "second" end)
    error "first" ]])
  fleet:answer { what = "back", status = "FAILED", error = "stuck" }
  local message = fleet:run("x").error.message
  for _, part in ipairs { "first; putting back failed: ", "second", "stuck" } do
    t.has(message, part)
  end
end)

t.test("abort: ends as Failure with the reason, also from a body and under pcall", function()
  local result = fleet_with({ "a", "b" }, task [[
    each.window(job.hosts, { max_failed = 9 }, function(host)
      pcall(function() job:abort "enough" end)
      host:execute "never"
    end)]]):run "x"
  t.eq({ result.state, result.error.code, result.error.message, #result.steps },
    { 2, "aborted", "enough", 0 })
end)

t.test("after a cancel each effect raises it, whatever pcall caught", function()
  local result = fleet_with({ "a" }, task [[
    job:defer(function() job.hosts:execute "back" end)
    for i = 1, 5 do pcall(function() job.hosts:execute "go" end) end
    job:try(function() job.hosts:ping() end)
    job:say "still here"]]):run("x", { cancel_at = 2 })
  t.eq({ result.error.code, steps(result), result.said }, { "cancelled", "go go back", {} })
end)

t.test("say: of the job and of a host, once, a resume included", function()
  local fleet = fleet_with({ "a" }, task [[
    job:say("%d of %s", 1, "two")
    job.hosts[1]:say "hello"
    job.hosts:ping()]])
  t.eq(fleet:run("x").said, { "1 of two", "a: hello" })
  fleet:survives "x"
end)

t.test("record: the last one counts, of a host and of a set", function()
  local outcomes = fleet_with({ "a", "b" }, task [[
    job.hosts:record("FAILED", "first")
    job.hosts:record("OK", "both")
    job:host("b"):record "CHANGED"]]):run("x").outcomes
  t.eq(outcomes, { a = { status = "OK", text = "both" }, b = { status = "CHANGED" } })
end)

t.test("sleep and now: the time of the last answer, standing still without an effect", function()
  t.eq(value({ "a" }, [[
    local began = job:now()
    job:sleep "1m"
    local slept = job:now() - began
    job:sleep(0.5) job:sleep(0)
    return { math.type(began), slept, job:now() == job:now() }]]), { "integer", 60, true })
  t.has(problem({ "a" }, "job:sleep 'soon'"), "tasks/x.lua:1: job:sleep wants")
  t.has(problem({ "a" }, "job.sleep(1)"), "with a colon")
end)

t.test("random: as math.random, the same on a resume", function()
  t.eq(value({ "a" }, [[
    local low, high, ints = 1, 0, true
    for _ = 1, 200 do
      local x, n = job:random(), job:random(3, 5)
      low, high = math.min(low, x), math.max(high, x)
      ints = ints and math.type(n) == "integer" and n >= 3 and n <= 5
    end
    return { low >= 0 and low < 0.1, high < 1 and high > 0.9, ints, job:random(1) }]]),
    { true, true, true, 1 })
  t.has(problem({ "a" }, "job:random(3, 1)"), "the interval 3 to 1 is empty")
  fleet_with({ "a" }, task "job.hosts:execute('n ' .. job:random(1000))"):survives "x"
end)

t.test("try: the value, true for none, or nil, err; with deferred functions of its own", function()
  local fleet = fleet_with({ "a" }, task [[
    local given = job:try(function(x) return x + 1 end, 41)
    local none = job:try(function() end)
    local no, err = job:try(function()
      job:defer(function() job.hosts:execute "back" end)
      job.hosts:execute "bad"
    end)
    job.hosts:execute "other"
    return { given, none, no == nil, err.code }]])
  fleet:answer { what = "bad", status = "FAILED" }
  local result = fleet:run "x"
  t.eq({ result.value, steps(result) }, { { 42, true, true, "failed" }, "bad back other" })
end)

t.test("wait_until: until true; a failed operation is not yet; a mistake is one", function()
  local fleet = fleet_with({ "a" }, task [[
    local began = job:now()
    local got = job:wait_until({ timeout = "1m", every = 3 }, function()
      return job.hosts[1]:execute("look", { changes = false }).stdout
    end)
    return { got, job:now() - began }]])
  fleet:answer { what = "look", stdout = "up" }
  fleet:answer { what = "look", status = "FAILED", times = 2 }
  t.eq(fleet:run("x").value, { "up", 3 + 2 * 3 })
  local late = [[local _, err = job:try(function()
    job:wait_until({ timeout = 10 }, function() return http.get("http://x/").status == 200 end)
  end) return { err.code, err.message }]]
  fleet = fleet_with({ "a" }, task(late))
  fleet:http("x", { status = 500 })
  local found = fleet:run("x").value
  t.eq(found[1], "timeout")
  t.has(found[2], "within 10")
  t.has(problem({ "a" }, "job:wait_until({}, function() local x return x.y end)"), "x.lua:1:")
  t.has(problem({ "a" }, "job:wait_until({ evry = 1 }, print)"), "tasks/x.lua:1: job:wait_until")
end)

t.test("retry: again when it raises or gives nothing; then the last error", function()
  local fleet = fleet_with({ "a" }, task [[
    local began, n = job:now(), 0
    local got = job:retry({ attempts = 3, delay = 2, backoff = 2 }, function()
      n = n + 1
      if n == 1 then return false end
      return job.hosts[1]:execute("try " .. n).stdout
    end)
    local _, err = job:try(function()
      job:retry({ attempts = 2, delay = 0 }, function() error("no " .. n, 0) end)
    end)
    return { n, got, job:now() - began, err.message }]])
  fleet:answer { what = "try 2", status = "FAILED" }
  t.eq(fleet:run("x").value, { 3, "", 2 + 1 + 4 + 1, "no 3" })
end)

t.test("await_approval: the answer, or denied or timeout is raised", function()
  local fleet = fleet_with({ "a" }, task [[
    local yes = job:await_approval { message = "go on?", timeout = "10m", by = "group:dba" }
    return { yes.approved, yes.who, yes.note }]])
  fleet:approve { approved = true, who = "ada", note = "fine" }
  t.eq(fleet:run("x").value, { true, "ada", "fine" })
  fleet:approve { approved = false, who = "bob", note = "too early" }
  local result = fleet:run "x"
  t.eq({ result.error.code, result.error.message }, { "denied", "bob said no: too early" })
  fleet:approve { timeout = true }
  t.eq({ fleet:run("x").error.code, fleet:run("x").seconds }, { "timeout", 600 })
  t.has(problem({ "a" }, "job:await_approval {}"), "'message' is missing")
end)

t.test("tally: counts what was noted of a host, within a time, until it is cleared", function()
  local body = [[
    local a, b = job.hosts[1], job.hosts[2]
    local list = { a:tally "resets", a:tally("resets", { add = true }), b:tally "resets" }
    job:sleep(100)
    list[4] = a:tally("resets", { add = true, within = 50 })
    list[5] = a:tally("resets")
    list[6] = a:tally("resets", { clear = true })
    list[7] = b:tally("resets", { add = true })
    return list]]
  local fleet = fleet_with({ "a", "b" }, task(body))
  fleet:tally("b", "resets", 4)
  t.eq(fleet:run("x").value, { 0, 1, 4, 1, 2, 0, 5 })
  fleet:survives("x", {}, function(result)
    t.eq(result.value, { 0, 1, 4, 1, 2, 0, 5 })
  end)
  for wrong, message in pairs {
    ["job.hosts[1]:tally 'a:b'"] = "host:tally wants a name",
    ["job.hosts[1]:tally()"] = "host:tally wants a name",
    ["job.hosts[1]:tally('a', { with = 1 })"] = "within",
    ["job.hosts[1]:tally('a', { within = '31d' })"] = "at most",
    ["job.hosts[1]:tally('a', { add = true, clear = true })"] = "either add or clear",
    ["job.hosts[1].tally('a')"] = "call it as host:tally(...)",
  } do t.has(problem({ "a" }, wrong), message) end
end)

t.test("check = false: nil and the error instead of raising", function()
  local fleet = fleet_with({ "a" }, task [[
    local list = {
      { job:wait_until({ timeout = 1, check = false }, function() return false end) },
      { job:retry({ attempts = 1, check = false }, function() return false end) },
      { job:await_approval { message = "?", check = false } },
      { job:call("other", { check = false }) },
    }
    local codes = {}
    for i, found in ipairs(list) do codes[i] = tostring(found[1]) .. " " .. found[2].code end
    return codes]], nil, { })
  fleet:approve { approved = false, who = "ada" }
  t.eq(fleet:run("x").value, { "nil timeout", "nil failed", "nil denied", "nil failed" })
end)

local OTHER <const> = [[return { summary = "other", args = { n = { "integer", default = 1 } },
  run = function(job)
    job:defer(function() job.hosts:execute "back" end)
    job.hosts:execute("other " .. job.args.n)
    return #job.hosts
  end }]]

t.test("call: another task in this job, on hosts of its targets", function()
  local libs = { ["task.other"] = OTHER }
  local fleet = fleet_with({ "w[1:3]" }, task [[
    return { job:call("other", { hosts = job.hosts:match "w[1-2]", args = { n = 7 } }),
      job:call "other" }]], libs)
  local result = fleet:run "x"
  t.eq({ result.value, #result.steps, result.steps[1].what, result.steps[1].key },
    { { 2, 3 }, 10, "other 7", "/other.1#1" })
  fleet:answer { what = "other 1", status = "FAILED", error = "bad day" }
  result = fleet:run "x"
  t.eq(result.error.code, "failed")
  t.has(result.error.message, "bad day")
  fleet = fleet_with({ "a" }, task "job:call('other', { args = { m = 1 } })", libs)
  t.has(fleet:run("x").error.message, "job:call other: ")
  libs["task.odd"] = [[return { summary = "odd", args = { n = { "integer" } }, run = function() end,
    check = function(args) return args.n ~= 2, "n may not be 2" end }]]
  fleet = fleet_with({ "a" }, task "job:call('odd', { args = { n = 2 } })", libs)
  t.has(fleet:run("x").error.message, "job:call: n may not be 2")
  fleet = fleet_with({ "a" }, task "job:call('other', { arg = {} })", libs)
  t.has(fleet:run("x").error.message, "tasks/x.lua:1: job:call has no option")
end)

t.test("secret: a handle that shows nothing and cannot be joined", function()
  t.eq(value({ "a" }, "return { tostring(job:secret 'x'), ('%s'):format(job:secret 'x') }"),
    { "***", "***" })
  t.has(problem({ "a" }, "return 'a' .. job:secret 'x'"), "a secret cannot be joined with text")
  local fleet = fleet_with({ "a" }, task([[
    job.hosts:execute("x", { env = { TOKEN = job.args.token }, stdin = job:secret "db" })
    return tostring(job.args.token)]], "{ token = { 'string', secret = true } }"))
  local result = fleet:run("x", { args = { token = "s3cret" } })
  t.eq(result.value, "***")
  local json = require "exed.json"
  t.eq(json.encode(result.journal):find("s3cret", 1, true), nil)
end)

t.test("http: an answer is one whatever its status; none is nil, err; retries", function()
  local fleet = fleet_with({ "a" }, task [[
    local busy = http.get "http://x/busy"
    local none, err = http.get("http://x/none", { retries = 2, delay = 1 })
    local posted = http.post("http://x/post", { body = "data", headers = { A = "b" } })
    local put = http.request("PUT", "http://x/put", { timeout = "5s" })
    return { busy.status, none == nil, err.code, posted.status, put.status }]])
  fleet:http("/busy", { status = 500 })
  fleet:http("/none", function() return nil end)
  fleet:http("/post", function(_, args)
    return { status = args.body == "data" and args.headers.A == "b" and 201 or 400 }
  end)
  local result = fleet:run "x"
  t.eq(result.value, { 500, true, "failed", 201, 200 })
  t.eq(#result.steps, 1 + 3 + 1 + 1)
  t.has(problem({ "a" }, "http.get 'ftp://x'"), "tasks/x.lua:1: http: a URL")
  t.has(problem({ "a" }, "http.get('http://x/', { heders = {} })"), "'heders'")
  t.has(problem({ "a" }, "http.get('http://x/', { headers = { A = 'a\\nb' } })"), "line break")
  t.has(problem({ "a" }, "http.request('get', 'http://x/')"), "a method such as PUT")
end)

t.test("a POST is never sent twice after a kill, unless it is repeatable", function()
  fleet_with({ "a" }, task [[
    http.get "http://x/" http.post("http://x/", { repeatable = true })]]):survives "x"
  local fleet = fleet_with({ "a" }, task "local a, err = http.post 'http://x/' return err.code")
  t.eq(fleet:run("x", { kill_at = 3 }).value, "unknown")
end)

t.done()
