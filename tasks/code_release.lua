-- SPDX-License-Identifier: MIT
-- Puts a revision of an app live, a few hosts at a time. It is made on all hosts first, where
-- nobody sees it; then each host is switched, and looked at. A host that fails goes back to what it
-- had; when too many do, all go back.
local each = require "exed.each"
local prepare = require "lib.release.prepare"
local request = require "lib.release.request"
local shell = require "lib.release.shell"
local talk = require "lib.release.talk"

local ask, show, why = talk.ask, talk.show, talk.why

-- ---- one host, and back -------------------------------------------------------------------------

local function run_hook(r, target, step, name, command, options)
  if not command then return end
  options.timeout = r.args.hook_timeout
  return ask(target, step, shell.hook(r.app, name, command), options)
end

local function check_health(r, target, name, options)
  options.changes, options.retries = false, r.args.health_tries - 1
  options.delay = r.args.health_every
  return run_hook(r, target, "health", name, r.args.health, options)
end

-- Keeps what failed while hosts went back. found: a record or results, or nil.
local function note_back(r, found)
  for _, record in ipairs(found and found.host and { found } or found or {}) do
    local host = record.host
    if record.failed then r.back[host] = r.back[host] or record.step .. ": " .. why(record) end
  end
end

-- Brings back what was live on a host, or on a set of hosts that had the same (window: so many at
-- once), with the hook that belongs to it; what fails is told at the end.
local function put_back(r, target, from, to, window)
  local options = { check = false, window = window }
  note_back(r, ask(target, "back", shell.switch(r.app, from, to, "back"), options))
  if from == "" then return end
  note_back(r, run_hook(r, target, "after", "", r.args.after, options))
  note_back(r, check_health(r, target, "", options))
end

-- The window counts a host that failed only when it has gone back, so others ask here.
local function too_many(r) return r.bad > r.allowed end

local function release(r, host)
  if too_many(r) then return host:record("SKIPPED") end
  local from, to, done = r.from[host], r.to[host], false
  r.job:defer(function()
    if done then return end
    r.tried[host] = true
    put_back(r, host, from, to)
  end)
  local went, err = r.job:try(function()
    run_hook(r, host, "before", to, r.args.before, {})
    if too_many(r) then host:fail "too many others had failed" end
    ask(host, "switch", shell.switch(r.app, to, from, r.args.rollback and "back" or "new"), {})
    run_hook(r, host, "after", to, r.args.after, {})
    check_health(r, host, to, {})
  end)
  if went then
    done = true
    r.done[#r.done + 1] = host
    host:record("CHANGED", ("%s is live, before it was %s"):format(to, show(from)))
  else
    r.bad = r.bad + 1
    local record = err.record or { step = "release", status = "FAILED", error = err.message }
    host:record(record.status, ("%s: %s"):format(record.step, why(record)))
  end
end

-- ---- how it ended -------------------------------------------------------------------------------

-- Takes back what went well, on all hosts: those that had the same together.
local function put_all_back(r)
  local groups, order = {}, {}
  for _, host in ipairs(r.done) do
    local key = r.from[host] .. "\n" .. r.to[host]
    if not groups[key] then order[#order + 1] = key end
    groups[key] = groups[key] or {}
    table.insert(groups[key], host)
  end
  for _, key in ipairs(order) do
    local list = groups[key]
    put_back(r, talk.set_of(r, list), r.from[list[1]], r.to[list[1]], r.size)
  end
end

-- What a host is told, which was looked at after something went wrong.
local function judge(r, record)
  local host = record.host
  local failed = r.problem[host] or r.failed[host]
  local reason = failed and failed.error or r.reason or "the job was ended"
  local live = record.ok and talk.name_of(record.stdout:match "^[^\n]*")
  local now = live and show(live) .. " is live" or "what is live is not known: " .. why(record)
  if not r.tried[host] then
    return failed and failed.status or "SKIPPED", ("not touched, %s; %s"):format(now, reason)
  end
  local back = live == r.from[host] and "gone back, " or "NOT gone back, "
  if r.back[host] then reason = ("%s; on the way back %s"):format(reason, r.back[host]) end
  return failed and failed.status or "FAILED", ("%s%s; %s"):format(back, now, reason)
end

-- Asks the hosts themselves what is live now, and says so.
local function tell(r, list)
  local results = ask(list, "live", shell.live(r.app),
    { check = false, window = r.args.window, changes = false })
  for _, record in ipairs(results) do
    local status, text = judge(r, record)
    record.host:record(status, text)
  end
end

-- Runs at the end, however it comes.
local function finish(r)
  if r.reason then
    if #r.done > 0 then r.job:say("%s: %d go back", r.reason, #r.done) end
    put_all_back(r)
    for _, host in ipairs(r.done) do r.tried[host] = true end
    return tell(r, r.job.hosts)
  end
  tell(r, r.job.hosts:filter(function(host) return r.tried[host] or r.problem[host] end))
end

-- ---- all hosts ----------------------------------------------------------------------------------

local function switch_all(r)
  local args, todo, unprepared = r.args, {}, 0
  for _, host in ipairs(r.job.hosts) do
    if r.problem[host] then
      unprepared = unprepared + 1
      host:record(r.problem[host].status, r.problem[host].error)
    elseif r.from[host] == r.to[host] then
      host:record("OK", r.to[host] .. " is live already")
    else
      todo[#todo + 1] = host
    end
  end
  local allowed = request.down(args.max_failed, #r.job.hosts)
  if unprepared > allowed then
    talk.give_up(r, ("%d of %d hosts failed before anything was switched, more than max_failed, %d")
      :format(unprepared, #r.job.hosts, allowed))
  end
  r.allowed = allowed - unprepared
  local outcomes = each.window(talk.set_of(r, todo), {
    size = r.size, max_failed = r.allowed, canary = args.canary, settle = args.settle,
    check = false,
  }, function(host) release(r, host) end)
  for _, outcome in ipairs(outcomes) do
    if outcome.failed then r.failed[outcome.host] = outcome end
  end
  if outcomes.stopped then talk.give_up(r, outcomes.stopped) end
  return #todo
end

local function ask_live(r)
  local results = ask(r.job.hosts, "live", shell.live(r.app),
    { check = false, window = r.args.window, changes = false })
  for _, record in ipairs(results) do
    local text = record.ok and record.stdout:match "^[^\n]*" or why(record)
    record.host:record(record.status, text)
  end
end

local function run(job)
  local args = job.args
  local all = #job.hosts
  local r = {
    job = job, args = args, app = request.app(args), size = request.up(args.size, all),
    from = {}, to = {}, -- host -> name of a release
    problem = {}, -- host -> why it could not be prepared: status, error
    failed = {}, -- host -> its outcome, when it failed later
    tried = {}, -- host -> whether anything of it was touched and is to go back
    back = {}, -- host -> what failed on the way back
    done = {}, -- list of the hosts that were switched and are well
    bad = 0, -- hosts that failed while they were switched
  }
  if args.revision == "?" then return ask_live(r) end
  job:defer(function() finish(r) end)
  local went, err = job:try(prepare, r)
  if not went then talk.give_up(r, err.message) end
  local todo = switch_all(r)
  if not args.rollback then
    local good = job.hosts:filter(function(host) return not r.problem[host] end)
    ask(good, "prune", shell.prune(r.app, args.keep), { check = false, window = args.window })
  end
  return { hosts = all, switched = #r.done, failed = all - #r.done - (all - todo) }
end

return {
  summary = "put a revision of an app live, or the one before",
  args = request.args, check = request.check, cleanup_limit = "1h", run = run,
}
