-- SPDX-License-Identifier: MIT
-- each.window and each.batch: every option, on a rehearsal fleet.

local support = require "task_support"
local t = require "support"

local fleet_with, task, value, problem = support.fleet, support.task, support.value, support.problem

-- The commands of a result's steps in their order: "host@time".
local function starts(result, what)
  local list = {}
  for _, step in ipairs(result.steps) do
    if not what or step.what == what then list[#list + 1] = ("%s@%d"):format(step.host, step.at) end
  end
  return table.concat(list, " ")
end

-- A window over all hosts that runs `go` on each; failing: hosts where it fails.
local function window(spec, options, failing, body)
  local fleet = fleet_with(spec, task(([[
    local outcomes = each.window(job.hosts, { %s }, function(host) %s end)
    return { stopped = outcomes.stopped or "no", ok = outcomes.ok:names(),
      failed = outcomes.failed:names(), changed = outcomes.changed:names() }]])
    :format(options, body or "host:execute 'go'")))
  for _, host in ipairs(failing or {}) do
    fleet:answer { op = "execute", what = "go", host = host, status = "FAILED", error = "no" }
  end
  return fleet:run "x"
end

local FOUR <const> = { "w[1:4]" }
local TEN <const> = { "w[01:10]" }

t.test("size: one at once, and a host that ends lets the next start", function()
  t.eq(starts(window(FOUR, "")), "w1@0 w2@1 w3@2 w4@3")
  t.eq(starts(window(FOUR, "size = 2")), "w1@0 w2@0 w3@1 w4@1")
  t.eq(starts(window(TEN, "size = '25%'")), -- 2.5, rounded up
    "w01@0 w02@0 w03@0 w04@1 w05@1 w06@1 w07@2 w08@2 w09@2 w10@3")
  local body = "if host.name == 'w1' then job:sleep(10) end host:execute 'go'"
  t.eq(starts(window(FOUR, "size = 2", {}, body)), "w2@0 w3@1 w4@2 w1@10")
end)

t.test("max_failed: more than that, over the whole call, and no host is started", function()
  local result = window(FOUR, "", { "w2" })
  t.eq(starts(result), "w1@0 w2@1")
  t.eq({ result.state, result.error.code }, { 2, "stopped" })
  t.has(result.error.message, "1 of 4 hosts failed, more than max_failed, 0")
  t.eq({ result.outcomes.w3.status, result.outcomes.w2.status }, { "SKIPPED", "FAILED" })
  t.has(result.outcomes.w3.text, "more than max_failed")
  t.eq(#window(FOUR, "max_failed = 1", { "w2" }).steps, 4)
  t.eq(#window(TEN, "max_failed = '19%'", { "w01", "w02" }).steps, 2) -- 1.9, rounded down
end)

t.test("unreachable counts as failed, and is the outcome", function()
  local fleet = fleet_with(FOUR, task [[
    each.window(job.hosts, {}, function(host) host:execute "go" end)]])
  fleet:answer { host = "w1", status = "UNREACHABLE", error = "no route" }
  local result = fleet:run "x"
  t.eq({ result.outcomes.w1.status, #result.steps }, { "UNREACHABLE", 1 })
end)

t.test("strict: never more than max_failed + 1 fail; without it size - 1 more may", function()
  local all = { "w*" }
  t.eq(#window(TEN, "size = 5, max_failed = 1", all).steps, 1 + 5)
  t.eq(#window(TEN, "size = 5, max_failed = 1, strict = true", all).steps, 2)
  t.eq(#window(TEN, "size = 5, strict = true").steps, 10)
end)

t.test("canary: goes first and must succeed whatever max_failed is", function()
  t.eq(starts(window(FOUR, "size = 4, canary = 1")), "w1@0 w2@1 w3@1 w4@1")
  local result = window(FOUR, "size = 4, canary = 2, max_failed = 4", { "w2" })
  t.eq(#result.steps, 2)
  t.has(result.error.message, "1 of 2 canary hosts failed")
  t.eq(starts(window(TEN, "size = 10, canary = '11%', deadline = 1")), "w01@0 w02@0") -- 1.1, up
end)

t.test("gate: asked once after the canary; false or an error stops", function()
  local body = "host:execute 'go'"
  local result = window(FOUR, "canary = 1, gate = function() job:say 'asked' return true end", {},
    body)
  t.eq({ #result.steps, result.said }, { 4, { "asked" } })
  result = window(FOUR, "canary = 1, gate = function() return false end")
  t.eq({ #result.steps, result.error.code }, { 1, "stopped" })
  t.has(result.error.message, "the gate said no")
  result = window(FOUR, "canary = 1, gate = function() error('not today', 0) end")
  t.has(result.error.message, "the gate failed: not today")
end)

t.test("settle: a host keeps its place after it is put back", function()
  local result = window({ "w[1:2]" }, "settle = 10", {},
    "job:defer(function() host:execute 'back' end) host:execute 'go'")
  t.eq(starts(result), "w1@0 w1@1 w2@12 w2@13")
end)

local RACKS <const> = { "w[1:6]", vars = function(name)
  return { rack = tonumber(name:sub(-1)) <= 3 and "a" or "b" }
end }

t.test("domain: neighbours in the order come from different ones", function()
  t.eq(starts(window(RACKS, "domain = 'rack'")), "w1@0 w4@1 w2@2 w5@3 w3@4 w6@5")
end)

t.test("per_domain: so many of one domain at once", function()
  t.eq(starts(window(RACKS, "size = 6, domain = 'rack', per_domain = 1")),
    "w1@0 w4@0 w2@1 w5@1 w3@2 w6@2")
  t.has(problem(RACKS, "each.window(job.hosts, { per_domain = 1 }, function() end)"),
    "tasks/x.lua:1: each.window: per_domain needs domain")
end)

t.test("order: inventory, reverse, random; the last one the same on a resume", function()
  t.eq(starts(window(FOUR, "order = 'reverse'")), "w4@0 w3@1 w2@2 w1@3")
  local once = starts(window(TEN, "order = 'random'"))
  t.eq(once == starts(window(TEN, "")), false)
  fleet_with(TEN, task [[
    each.window(job.hosts, { order = "random" }, function(host) host:execute "go" end)]])
    :survives "x"
end)

t.test("deadline: no host is started so long after the call", function()
  local result = window(FOUR, "deadline = 2")
  t.eq(starts(result), "w1@0 w2@1")
  t.has(result.error.message, "the deadline of 2 s has passed")
end)

t.test("check = false: outcomes with the reason in stopped", function()
  local result = window(FOUR, "check = false", { "w2" })
  t.eq(result.error, nil)
  t.eq(result.state, 2, "an outcome failed all the same")
  t.has(result.value.stopped, "1 of 4 hosts failed")
  t.eq({ result.value.ok, result.value.failed, result.value.changed },
    { { "w1" }, { "w2" }, { "w1" } })
end)

t.test("an outcome: what the body said, raised, changed, else OK", function()
  local fleet = fleet_with({ "w[1:6]" }, task [[
    local outcomes = each.window(job.hosts, { size = 6, max_failed = 6 }, function(host)
      local n = tonumber(host.name:sub(-1))
      if n == 1 then host:record("OK", "as it was") host:execute "go" end
      if n == 2 then host:execute "go" end
      if n == 3 then host:ping() end
      if n == 4 then host:fail "I say no" end
      if n == 5 then error("mistake") end
      if n == 6 then host:execute("bad", { check = false }) host:record "CHANGED" end
    end)
    return { outcomes.w1.status, outcomes[job.hosts[4] ].error, #outcomes }]])
  fleet:answer { what = "bad", status = "FAILED" }
  local result = fleet:run "x"
  local seen = {}
  for i = 1, 6 do seen[i] = result.outcomes["w" .. i].status end
  t.eq(seen, { "OK", "CHANGED", "OK", "FAILED", "FAILED", "CHANGED" })
  t.eq(result.outcomes.w1.text, "as it was")
  t.has(result.outcomes.w5.text, "tasks/x.lua:")
  t.eq(result.value, { "OK", "I say no", 6 })
end)

t.test("hosts of a window may share tables", function()
  t.eq(value(FOUR, [[
    local seen = {}
    each.window(job.hosts, { size = 4 }, function(host) host:ping() seen[#seen + 1] = host.name end)
    return seen]]), { "w1", "w2", "w3", "w4" })
end)

t.test("a failing deferred function makes the outcome FAILED, with its reason", function()
  local fleet = fleet_with({ "w1" }, task [[
    each.window(job.hosts, { check = false }, function(host)
      job:defer(function() host:execute "back" end)
      host:record("OK", "fine")
    end)]])
  fleet:answer { what = "back", status = "FAILED", error = "stuck" }
  local outcome = fleet:run("x").outcomes.w1
  t.eq(outcome.status, "FAILED")
  t.has(outcome.text, "putting back failed: ")
  t.has(outcome.text, "stuck")
end)

t.test("wrong options raise with file and line", function()
  for body, part in pairs {
    ["each.window(job.hosts, { sise = 1 }, print)"] = "tasks/x.lua:1: each.window: ",
    ["each.window(job.hosts, {})"] = "wants a function as its third argument",
    ["each.window({}, {}, print)"] = "wants a set of hosts",
    ["each.window(job.hosts, { size = 0 }, print)"] = "size must be at least 1",
    ["each.window(job.hosts, { gate = 1 }, print)"] = "gate must be a function",
    ["each.window(job.hosts, { order = 'up' }, print)"] = "order",
    ["each.window(job.hosts, 3, print)"] = "options are a table",
    ["each.batch(job.hosts, { size = 'x' })"] = "each.batch: ",
  } do t.has(problem(FOUR, body), part, body) end
end)

t.test("no hosts is no error", function()
  t.eq(value(FOUR, [[
    local none = job.hosts:filter(function() return false end)
    for _ in each.batch(none, {}) do error "a batch" end
    return #each.window(none, { size = "10%" }, print) + #none:ping()]]), 0)
end)

-- ---- batch --------------------------------------------------------------------------------------

local function batch(spec, options, failing, after)
  local fleet = fleet_with(spec, task(([[
    local seen = {}
    for hosts in each.batch(job.hosts, { %s }) do
      hosts:execute "go"
      seen[#seen + 1] = tostring(hosts)
      %s
    end
    return seen]]):format(options, after or "")))
  for _, host in ipairs(failing or {}) do
    fleet:answer { op = "execute", what = "go", host = host, status = "FAILED", error = "no" }
  end
  return fleet:run "x"
end

t.test("batch: sets of size, one after another", function()
  local result = batch({ "w[1:5]" }, "size = 2")
  t.eq(result.value, { "w1, w2", "w3, w4", "w5" })
  t.eq(starts(result), "w1@0 w2@0 w3@1 w4@1 w5@2")
  t.eq(result.outcomes.w5.status, "CHANGED")
end)

t.test("a batch drops those that failed and counts them over the whole call", function()
  local result = batch({ "w[1:6]" }, "size = 2, max_failed = 1", { "w1", "w4" })
  t.eq(result.error.code, "stopped")
  t.has(result.error.message, "each.batch stopped: 2 of 6 hosts failed")
  t.eq({ result.outcomes.w1.status, result.outcomes.w2.status, result.outcomes.w5.status },
    { "FAILED", "CHANGED", "SKIPPED" })
  result = batch({ "w[1:4]" }, "size = 2, max_failed = 1", { "w1" })
  t.eq({ result.value, result.state }, { { "w2", "w3, w4" }, 2 })
  t.eq(#batch({ "w[1:6]" }, "size = 3, max_failed = 1, strict = true", { "w*" }).steps, 2)
end)

t.test("batch: canary, gate, settle, domain, order, deadline, check", function()
  t.eq(batch(FOUR, "size = 2, canary = 1").value, { "w1", "w2, w3", "w4" })
  t.has(batch(FOUR, "canary = 1, gate = function() return false end").error.message, "gate said no")
  t.eq(starts(batch(FOUR, "size = 2, settle = 5")), "w1@0 w2@0 w3@6 w4@6")
  t.eq(batch(RACKS, "size = 2, domain = 'rack'").value, { "w1, w4", "w2, w5", "w3, w6" })
  t.eq(batch(RACKS, "size = 4, domain = 'rack', per_domain = 1").value,
    { "w1, w4", "w2, w5", "w3, w6" })
  t.eq(batch(FOUR, "size = 2, order = 'reverse'").value, { "w4, w3", "w2, w1" })
  t.eq(batch(FOUR, "deadline = 2, check = false").value, { "w1", "w2" })
end)

t.test("what a batch's body defers is put back at its end, also when it raises", function()
  local result = batch(FOUR, "size = 2", {},
    "job:defer(function() hosts:execute 'back' end)")
  t.eq(starts(result, "back"), "w1@1 w2@1 w3@3 w4@3")
  result = batch(FOUR, "size = 2", {},
    "job:defer(function() hosts:execute 'back' end) error 'mistake'")
  t.eq(starts(result, "back"), "w1@1 w2@1")
  t.eq(result.state, 2)
end)

t.test("window and batch survive kills, with what they put back", function()
  local fleet = fleet_with({ "w[1:6]" }, task [[
    each.window(job.hosts:match "w[1-3]", { size = 2, max_failed = 1, settle = 3 }, function(host)
      job:defer(function() host:execute "back" end)
      host:execute "go"
    end)
    for hosts in each.batch(job.hosts:match "w[4-6]", { size = 2, canary = 1 }) do
      job:defer(function() hosts:execute "back" end)
      hosts:execute "go"
    end]])
  fleet:answer { what = "go", host = "w2", status = "FAILED" }
  fleet:survives("x", {}, function(result)
    assert(result.outcomes.w2.status == "FAILED" and result.outcomes.w6.status == "CHANGED")
  end)
end)

t.done()
