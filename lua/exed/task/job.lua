-- SPDX-License-Identifier: MIT
-- The job object that a task's run(job) gets, and the same functions for scripts.

local counts = require "exed.task.counts"
local fail = require "exed.task.fail"
local hosts = require "exed.task.hosts"
local schema = require "exed.schema"
local words = require "exed.words"

local methods = {}
local job_meta = { __name = "job", __metatable = false }
function job_meta.__index(self, key)
  local value = hosts.inside(self)[key]
  if value ~= nil and key ~= "rt" then return value end
  return methods[key]
end
function job_meta.__newindex(_, key) fail.usage("job.%s cannot be set", tostring(key)) end
function job_meta.__tostring(self) return "job " .. tostring(self.jid) end

local function runtime_of(job)
  local held = hosts.inside(job)
  return held and held.rt or fail.usage "call it as job:name(...), with a colon"
end

local function check_function(fn, what)
  if type(fn) ~= "function" then fail.usage("%s wants a function, got %s", what, type(fn)) end
end

-- ---- hosts --------------------------------------------------------------------------------------

function methods.host(job, name)
  runtime_of(job)
  for _, host in ipairs(job.hosts) do
    if host.name == name then return host end
  end
  fail.usage("job:host: '%s' is not a target of this job", tostring(name))
end

-- ---- putting back, ending, saying ---------------------------------------------------------------

function methods.defer(job, fn)
  check_function(fn, "job:defer")
  runtime_of(job):defer(fn)
end

function methods.say(job, format, ...)
  runtime_of(job):note("say", { text = tostring(format):format(...) })
end

function methods.abort(job, reason)
  local rt = runtime_of(job)
  local err = fail.new("aborted", tostring(reason or "aborted"))
  rt:end_with(err)
  error(err, 0)
end

-- ---- time and chance ----------------------------------------------------------------------------

function methods.sleep(job, duration)
  runtime_of(job):sleep(counts.seconds(duration, "job:sleep"))
end

function methods.now(job) return math.floor(runtime_of(job).time) end

function methods.random(job, m, n) return runtime_of(job):chance(m, n) end

-- ---- trying -------------------------------------------------------------------------------------

local CHECK <const> = { "boolean", default = true }

-- fn(...)'s value; with check = false what it raises is returned: nil, err.
local function checked(rt, check, fn, ...)
  if check then return fn(...) end
  local ok, value = pcall(fn, ...)
  rt:check_over(rt:context())
  if ok then return value end
  return nil, fail.from(value)
end

-- Runs fn(...) with its own deferred functions. Returns its value (true for none), or nil, err.
function methods.try(job, fn, ...)
  local rt = runtime_of(job)
  check_function(fn, "job:try")
  local ok, value = rt:scoped(fn, ...)
  rt:check_over(rt:context())
  if not ok then return nil, fail.from(value) end
  return value == nil and true or value
end

local WAIT <const> = schema.compile({
  timeout = { "duration", default = 60 }, every = { "duration", min = 0.01, default = 2 },
  check = CHECK,
}, { lua = true })

local function wait_until(rt, options, fn)
  local began = rt.time
  while true do
    local ok, value = pcall(fn)
    rt:check_over(rt:context())
    if not ok and not fail.is(value, "failed") then error(value, 0) end
    if ok and value then return value end
    if rt.time - began >= options.timeout then
      local why = not ok and ": " .. tostring(value) or ""
      error(fail.new("timeout", ("not so within %s s%s"):format(options.timeout, why)), 0)
    end
    rt:sleep(options.every)
  end
end

-- Calls fn until it returns true; a failed operation in it counts as "not yet".
function methods.wait_until(job, given, fn)
  local rt = runtime_of(job)
  if type(given) == "function" then given, fn = {}, given end
  local options = counts.options(WAIT, given, "job:wait_until")
  check_function(fn, "job:wait_until")
  return checked(rt, options.check, wait_until, rt, options, fn)
end

local RETRY <const> = schema.compile({
  attempts = { "integer", min = 1, max = 1000, default = 3 }, delay = { "duration", default = 2 },
  backoff = { "number", min = 1, max = 100, default = 2 }, check = CHECK,
}, { lua = true })
local MAX_DELAY <const> = 60 -- seconds

local function retry(rt, options, fn)
  local pause = options.delay
  for attempt = 1, options.attempts do
    local ok, value = rt:scoped(fn)
    rt:check_over(rt:context())
    if ok and value then return value end
    if attempt == options.attempts then
      if not ok then error(value, 0) end
      error(fail.new("failed", ("no success in %d attempts"):format(attempt)), 0)
    end
    rt:sleep(math.min(pause, MAX_DELAY))
    pause = pause * options.backoff
  end
end

-- Calls fn again when it raises or returns nil or false; then raises the last error.
function methods.retry(job, given, fn)
  local rt = runtime_of(job)
  if type(given) == "function" then given, fn = {}, given end
  local options = counts.options(RETRY, given, "job:retry")
  check_function(fn, "job:retry")
  return checked(rt, options.check, retry, rt, options, fn)
end

-- ---- people, secrets, other tasks ---------------------------------------------------------------

local APPROVAL <const> = schema.compile({
  message = { "string", required = true, min = 1, max = 1000 },
  timeout = { "duration", default = 3600 }, by = { "string" }, check = CHECK,
}, { lua = true })

local function await_approval(rt, options)
  local answer = rt:ask("approval", options)
  if answer.timeout then
    error(fail.new("timeout", ("nobody answered within %s s: %s"):format(options.timeout,
      options.message)), 0)
  end
  if not answer.approved then
    error(fail.new("denied", ("%s said no%s"):format(answer.who or "somebody",
      answer.note and answer.note ~= "" and ": " .. answer.note or "")), 0)
  end
  return { approved = true, who = answer.who, note = answer.note }
end

function methods.await_approval(job, given)
  local rt = runtime_of(job)
  local options = counts.options(APPROVAL, given, "job:await_approval")
  local check = options.check
  options.check = nil -- how the answer is taken is no part of the question
  return checked(rt, check, await_approval, rt, options)
end

local secret_meta = { __name = "secret", __metatable = false }
function secret_meta.__tostring() return "***" end
function secret_meta.__concat()
  fail.usage "a secret cannot be joined with text: its value is not here"
end

-- A handle for a secret: its value never enters the task.
function methods.secret(job, name)
  runtime_of(job)
  if type(name) ~= "string" or not name:find "^[%w_.-]+$" then
    fail.usage "job:secret wants the name of a secret: letters, digits, _ . -"
  end
  return setmetatable({ secret = name }, secret_meta)
end

local CALL <const> = { hosts = true, args = true, check = true }

local function check_call(given)
  for key in pairs(given) do
    if not CALL[key] then
      fail.usage("job:call has no option %s (hosts, args, check)", words.show(key))
    end
  end
end

-- Runs another task on hosts of this job, under its lease. Returns its value; raises when it
-- failed.
function methods.call(job, name, given)
  local rt = runtime_of(job)
  if type(name) ~= "string" then fail.usage "job:call wants the name of a task" end
  if given ~= nil and type(given) ~= "table" then
    fail.usage "job:call wants a table: { hosts = set, args = {} }"
  end
  given = given or {}
  check_call(given)
  local list = given.hosts and hosts.list(given.hosts, "job:call") or job.hosts
  for _, host in ipairs(list) do
    if hosts.world(host) ~= hosts.world(job.hosts) then
      fail.usage("job:call: %s is not a target of this job", host.name)
    end
  end
  local context = rt:context()
  context.calls = context.calls + 1
  local path = ("%s/%s.%d"):format(context.path, name, context.calls)
  return checked(rt, given.check ~= false, rt.call_task, name, path, list, given.args or {})
end

local job = { methods = methods }

-- A job object. given: jid, who, dry_run, args, hosts (a set), node (a host object or nil).
function job.new(rt, given)
  return hosts.sealed({
    rt = rt, jid = given.jid, who = given.who, dry_run = given.dry_run or false,
    args = given.args, hosts = given.hosts, targets = given.hosts:names(), node = given.node,
  }, job_meta)
end

return job
