-- SPDX-License-Identifier: MIT
-- What tasks/README.md promises, a test for each line of its tables that no other file tests: a
-- task's file, declared args, the fields and options of operations, records, errors.

local definition = require "exed.task.definition"
local support = require "task_support"
local t = require "support"

local fleet_with, task, problem = support.fleet, support.task, support.problem

local function lines(what, list, check)
  for _, line in ipairs(list) do
    t.test(("%s: %s"):format(what, line[1]), function() check(table.unpack(line, 2)) end)
  end
end

-- ---- a task's file ------------------------------------------------------------------------------

local function file(changes)
  local found = { summary = "x", run = function() end }
  for name, one in pairs(changes) do found[name] = one ~= false and one or nil end
  return found
end

lines("a task's file", {
  { "summary is required", { summary = false }, "summary is missing" },
  { "summary is one line", { summary = "a\nb" }, "summary is missing: one line" },
  { "run is required", { run = false }, "run is missing: function(job)" },
  { "run is a function", { run = 3 }, "run must be a function, got 3" },
  { "args is a table", { args = 3 }, "args must be a table, got 3" },
  { "type is no other plugin's", { type = "handler" }, 'its type must be "task"' },
  { "type is a word", { type = "a b" }, "type must be a word" },
  { "lock is one of three", { lock = "mine" }, 'lock must be "exclusive", "shared" or "none"' },
  { "time_limit is a duration", { time_limit = "soon" }, "time_limit must be a duration" },
  { "time_limit is more than 0", { time_limit = 0 }, "time_limit must be" },
  { "cleanup_limit is a duration", { cleanup_limit = {} }, "cleanup_limit must be a duration" },
  { "max_hosts is a whole number", { max_hosts = 1.5 }, "max_hosts must be a whole number" },
  { "max_hosts is at least 1", { max_hosts = 0 }, "at least 1" },
  { "check is a function", { check = {} }, "check must be a function" },
  { "the nearest name of an unknown field", { sumary = "x" }, "did you mean 'summary'?" },
}, function(changes, part) t.raises(function() definition.check(file(changes)) end, part) end)

t.test("a task's file: what is left out", function()
  local found = definition.check(file {})
  t.eq({ found.lock, found.args, found.time_limit, found.cleanup_limit, found.max_hosts },
    { "exclusive", {} })
  found = definition.check(file { type = "task", lock = "none", time_limit = "2h",
    cleanup_limit = 30, max_hosts = 7 })
  t.eq({ found.lock, found.time_limit, found.cleanup_limit, found.max_hosts },
    { "none", 7200, 30, 7 })
end)

-- The error of a task whose args a and b are checked by that body.
local function checked_by(body, args)
  local fleet = fleet_with({ "h" }, ([[
    return { summary = "x", args = { a = { "integer" }, s = { "string", secret = true } },
      check = function(args) %s end, run = function(job) return job.args.a end }]]):format(body))
  local result = fleet:run("x", { args = args })
  return result.error and result.error.message, result.value, #result.steps
end

lines("check", {
  { "a good one runs", "return true", { a = 3 }, nil, 3 },
  { "a wrong one says why", "return nil, 'a is odd'", { a = 3 }, "a is odd" },
  { "false does, too", "return false, 'a is odd'", { a = 3 }, "a is odd" },
  { "it gets what was given, as declared", "return args.a == 3, math.type(args.a)", { a = "3" },
    nil, 3 },
  { "a secret is not there", "return args.s == '***', 'seen'", { a = 1, s = "hush" }, nil, 1 },
  { "what it changes stays with it", "args.a = 7 return true", { a = 3 }, nil, 3 },
  { "it must say something", "", {}, "check must return true, or nil and what is wrong" },
  { "a mistake in it has a line", "return nothing.x", {}, "tasks/x.lua:2: " },
}, function(body, args, wrong, value)
  local found, got = checked_by(body, args)
  if wrong then t.has(found, wrong) else t.eq(found, nil) end
  t.eq(got, value)
end)

-- ---- declared args ------------------------------------------------------------------------------

local THREE <const> = { "a1", "a2", "b1" }

-- What job.args.x is, given as text or as a value.
local function given(decl, what, body)
  local fleet = fleet_with(THREE, task(body or "return { job.args.x }", "{ x = " .. decl .. " }"))
  return fleet:run("x", { args = { x = what } })
end

local NAMES <const> = "return { job.args.x:names() }"

lines("args", {
  { "string", "{ 'string' }", "a b", "a b" },
  { "path", "{ 'path' }", "/etc/hosts", "/etc/hosts" },
  { "url", "{ 'url' }", "https://a/b", "https://a/b" },
  { "command", "{ 'command' }", "ls | wc", "ls | wc" },
  { "integer, as a value", "{ 'integer' }", 3, 3 },
  { "integer, as text", "{ 'integer' }", "3", 3 },
  { "number, as text", "{ 'number' }", "1.5", 1.5 },
  { "boolean, as a value", "{ 'boolean' }", true, true },
  { "boolean, as text", "{ 'boolean' }", "yes", true },
  { "count, a number", "{ 'count' }", 3, 3 },
  { "count, a percentage", "{ 'count' }", "10%", "10%" },
  { "duration, a number", "{ 'duration' }", 90, 90 },
  { "duration, seconds", "{ 'duration' }", "90s", 90 },
  { "duration, minutes", "{ 'duration' }", "5m", 300 },
  { "duration, hours", "{ 'duration' }", "4h", 14400 },
  { "duration, days", "{ 'duration' }", "2d", 172800 },
  { "choice", "{ 'choice', of = { 'a', 'b' } }", "b", "b" },
  { "list, as a value", "{ 'list' }", { "a", "b" }, { "a", "b" } },
  { "list, with commas", "{ 'list' }", "a,b", { "a", "b" } },
  { "list of a type", "{ 'list', of = 'integer' }", "1,2", { 1, 2 } },
  { "list of a declared type", "{ 'list', of = { 'integer', max = 5 } }", { 1, 5 }, { 1, 5 } },
  { "object", "{ 'object' }", { a = { 1 } }, { a = { 1 } } },
  { "host: the name of one target", "{ 'host' }", "a2", "a2" },
  { "hosts: a pattern inside the targets", "{ 'hosts' }", "a[1:2]", { "a1", "a2" }, NAMES },
  { "default", "{ 'integer', default = 7 }", nil, 7 },
  { "default, read by its type", "{ 'duration', default = '5m' }", nil, 300 },
}, function(decl, what, want, body) t.eq(given(decl, what, body).value, { want }) end)

lines("args are refused", {
  { "a path that is not absolute", "{ 'path' }", "etc", "absolute path" },
  { "a url of another kind", "{ 'url' }", "ftp://a", "http" },
  { "no integer", "{ 'integer' }", "x", "whole number" },
  { "no choice, with what there is", "{ 'choice', of = { 'a', 'b' } }", "c", "a, b" },
  { "an item of a list", "{ 'list', of = { 'integer', max = 5 } }", "1,6", "at most 5" },
  { "required, missing", "{ 'string', required = true }", nil, "'x' is missing" },
  { "min of a value", "{ 'integer', min = 3 }", 2, "at least 3" },
  { "max of a value", "{ 'integer', max = 3 }", 4, "at most 3" },
  { "min of a length", "{ 'string', min = 3 }", "ab", "at least 3 characters" },
  { "max of a number of items", "{ 'list', max = 1 }", "a,b", "at most 1 items" },
  { "match is for the whole text", "{ 'string', match = '%d+' }", "12a", "text of digits" },
}, function(decl, what, part) t.raises(function() given(decl, what) end, part) end)

lines("args, when the task begins", {
  { "a host that is no target", "{ 'host' }", "c9", "'c9' is not one of the targets" },
}, function(decl, what, part) t.has(given(decl, what).error.message, part) end)

t.test("args: an unknown one is refused with the nearest known name", function()
  local fleet = fleet_with(THREE, task("return 1", "{ size = { 'count', default = 1 } }"))
  t.raises(function() fleet:run("x", { args = { sizes = 2 } }) end, "did you mean 'size'?")
end)

t.test("args: required and default exclude each other", function()
  t.raises(function() given("{ 'string', required = true, default = 'a' }", "a") end,
    "required and default exclude each other")
end)

t.test("args: a secret is a handle that shows nothing", function()
  t.eq(given("{ 'string', secret = true }", "pw", "return { tostring(job.args.x) }").value,
    { "***" })
end)

-- ---- operations ---------------------------------------------------------------------------------

-- The fields that reach the host of one operation.
local function fields_of(body)
  local fleet, seen = fleet_with({ "a" }, task(body)), nil
  fleet:answer { reply = function(_, fields) seen = fields end }
  local result = fleet:run "x"
  return seen or result.error
end

lines("operations", {
  { "execute: a text for sh", "job.hosts:execute 'ls | wc'", { command = "ls | wc" } },
  { "execute: a list of words", "job.hosts:execute { 'ls', 1, 'a b' }",
    { argv = { "ls", "1", "a b" } } },
  { "execute: words and options in one table", "job.hosts:execute { 'ls', cwd = '/tmp' }",
    { argv = { "ls" }, cwd = "/tmp" } },
  { "execute: env, stdin, cwd", "job.hosts:execute('x', { env = { A = 1 }, stdin = 'y', "
    .. "cwd = '/' })", { command = "x", env = { A = "1" }, stdin = "y", cwd = "/" } },
  { "ping", "job.hosts:ping()", {} },
  { "facter", "job.hosts:facter()", {} },
  { "service: started", "job.hosts:service { name = 'a', state = 'started' }",
    { name = "a", state = "started" } },
  { "service: enable", "job.hosts:service { name = 'a', state = 'stopped', enable = false }",
    { name = "a", state = "stopped", enable = false } },
  { "service: reloaded", "job.hosts:service { name = 'a', state = 'reloaded' }",
    { name = "a", state = "reloaded" } },
  { "deploy: role, partial, extra_vars",
    "job.hosts:deploy { role = 'web', partial = { 'a' }, extra_vars = { b = 1 } }",
    { role = "web", partial = { "a" }, extra_vars = { b = 1 } } },
  { "wait_up: via is ssh", "job.hosts:wait_up()", { via = "ssh" } },
  { "wait_down: via tcp:PORT", "job.hosts:wait_down { via = 'tcp:80' }", { via = "tcp:80" } },
}, function(body, want) t.eq(fields_of(body), want) end)

-- The one effect of an operation, as its node gets it.
local function effect_of(body)
  local result = fleet_with({ "a", "b" }, task(body)):run "x"
  for _, entry in ipairs(result.journal) do
    if entry.ask and entry.ask.kind == "op" then return entry.ask.args end
  end
  return result.error
end

lines("options", {
  { "timeout", "job.hosts:ping { timeout = '1m' }", "timeout", 60 },
  { "timeout of waits is 5 m", "job.hosts:wait_up()", "timeout", 300 },
  { "timeout of copies is 10 m", "job.hosts:copy { dest = '/a', content = 'x' }", "timeout", 600 },
  { "step", "job.hosts:ping { step = 'look' }", "step", "look" },
  { "changes: a command changes", "job.hosts:execute 'x'", "changes", true },
  { "changes = false: it only looks", "job.hosts:execute('x', { changes = false })", "changes",
    false },
  { "changes = false may be repeated", "job.hosts:execute('x', { changes = false })",
    "repeatable", true },
  { "repeatable", "job.hosts:execute('x', { repeatable = true })", "repeatable", true },
  { "a command is not repeatable", "job.hosts:execute 'x'", "repeatable", false },
  { "looks are repeatable", "job.hosts:wait_up()", "repeatable", true },
  { "window of a set", "job.hosts:ping { window = 1 }", "window", 1 },
}, function(body, field, want) t.eq(effect_of(body)[field], want) end)

t.test("options: a delay is at most 60 s however often it grows", function()
  local fleet = fleet_with({ "a" }, task [[
    local began = job:now()
    job.hosts[1]:ping { retries = 3, delay = 50, backoff = 10, check = false }
    return job:now() - began]])
  fleet:answer { status = "FAILED" }
  t.eq(fleet:run("x").value, 4 + 50 + 60 + 60)
end)

t.test("max_failed of a set: more than that raise, on all its hosts", function()
  for limit, state in pairs { [1] = 2, [2] = 0, ["50%"] = 0, ["49%"] = 2 } do
    local fleet = fleet_with({ "w[1:4]" }, task(("job.hosts:ping { max_failed = %s } "):format(
      type(limit) == "string" and "'" .. limit .. "'" or limit) .. "job.hosts:record 'OK'"))
    fleet:answer { op = "ping", host = "w[12]", status = "FAILED" }
    local result = fleet:run "x"
    t.eq({ result.state, #result.steps }, { state, 4 }, tostring(limit))
  end
end)

t.test("a host that is no target of the job cannot be asked", function()
  t.has(problem({ "a" }, "job:host 'b'"), "job:host: 'b' is not a target of this job")
end)

-- ---- records ------------------------------------------------------------------------------------

lines("a record", {
  { "ok: OK", { status = "OK" }, "ok", true },
  { "ok: CHANGED", { status = "CHANGED" }, "ok", true },
  { "failed: FAILED", { status = "FAILED" }, "failed", true },
  { "failed: UNREACHABLE", { status = "UNREACHABLE" }, "failed", true },
  { "SKIPPED is not ok", { status = "SKIPPED" }, "ok", false },
  { "SKIPPED is not failed", { status = "SKIPPED" }, "failed", false },
  { "error is nil when ok", { status = "OK" }, "error" },
  { "error", { status = "FAILED", error = "why" }, "error", "why" },
  { "rtc", { status = "FAILED", rtc = 7 }, "rtc", 7 },
  { "stdout", { stdout = "a" }, "stdout", "a" }, { "stderr", { stderr = "b" }, "stderr", "b" },
  { "stdout is text when there is none", {}, "stdout", "" },
  { "truncated", { truncated = true }, "truncated", true },
  { "timed_out", { status = "FAILED", timed_out = true }, "timed_out", true },
  { "signal", { status = "FAILED", signal = "KILL" }, "signal", "KILL" },
  { "killed", { status = "FAILED", killed = true }, "killed", true },
  { "survivors", { status = "FAILED", survivors = 2 }, "survivors", 2 },
  { "cancelled", { status = "FAILED", cancelled = true }, "cancelled", true },
  { "unknown", { status = "FAILED", unknown = true }, "unknown", true },
  { "facts", { facts = { a = 1 } }, "facts", { a = 1 } },
  { "content", { content = "x" }, "content", "x" },
  { "checksum", { checksum = "ab" }, "checksum", "ab" },
  { "seconds", { seconds = 2 }, "seconds", 2 }, { "attempts", {}, "attempts", 1 },
}, function(answer, field, want)
  local fleet = fleet_with({ "a" }, task(
    ("return { job.hosts[1]:execute('x', { check = false }).%s }"):format(field)))
  fleet:answer(answer)
  t.eq(fleet:run("x").value[1], want)
end)

t.test("a record: dry_run is true in a dry run only", function()
  for _, dry in ipairs { true, false } do
    local fleet = fleet_with({ "a" }, task [[
      return { job.dry_run, job.hosts[1]:ping().dry_run or false }]])
    t.eq(fleet:run("x", { dry_run = dry }).value, { dry, dry })
  end
end)

-- ---- outcomes and errors ------------------------------------------------------------------------

lines("the job", {
  { "is done when failed steps alone do not count", "job.hosts:ping { check = false } "
    .. "job.hosts:record 'OK'", 0 },
  { "is Failure when any outcome failed", "job.hosts:record 'FAILED'", 2 },
  { "is Failure when a host that has no outcome failed last", "job.hosts:ping { check = false }",
    2 },
  { "is Failure when it raised", "error 'x'", 2 },
  { "is done when a host is SKIPPED", "job.hosts:record 'SKIPPED'", 0 },
  { "is Failure when it was aborted", "job:abort 'x'", 2 },
}, function(body, state)
  local fleet = fleet_with({ "a" }, task(body))
  fleet:answer { op = "ping", status = "FAILED" }
  t.eq(fleet:run("x").state, state)
end)

lines("an error's code", {
  { "failed", "job.hosts:execute 'bad'", "failed" },
  { "stopped", "each.window(job.hosts, {}, function(host) host:execute 'bad' end)", "stopped" },
  { "aborted", "job:abort 'x'", "aborted" },
  { "timeout", "job:wait_until({ timeout = 1 }, function() return false end)", "timeout" },
  { "denied", "job:await_approval { message = '?' }", "denied" },
}, function(body, code)
  local fleet = fleet_with({ "a" }, task(body))
  fleet:answer { what = "bad", status = "FAILED" }
  fleet:approve { approved = false, who = "bob" }
  t.eq(fleet:run("x").error.code, code)
end)

t.test("an error's code: cancelled", function()
  t.eq(fleet_with({ "a" }, task "job:sleep(9)"):run("x", { cancel_at = 1 }).error.code, "cancelled")
end)

t.test("a called task's failure is raised in the one that called it, with its code", function()
  local libs = { ["task.other"] = task "job:abort 'not today'" }
  local fleet = fleet_with({ "a" }, task [[
    local _, err = job:try(function() job:call("other", {}) end)
    return { err.code, err.message }]], libs)
  local result = fleet:run "x"
  t.eq({ result.error and result.error.code, result.state }, { "aborted", 2 })
end)

-- ---- scripts ------------------------------------------------------------------------------------

t.test("scripts have the core's own modules", function()
  for _, name in ipairs { "ssh", "proc", "redis", "timer", "log", "json", "http" } do
    t.eq(type(require("exed." .. name)), "table", name)
  end
end)

t.done()
