-- SPDX-License-Identifier: MIT
-- A fake fleet with a virtual clock, on which tasks are rehearsed: in tests, and for dry runs. What
-- runs is the real runtime and the real driver; a kill throws both away and keeps the journal and
-- the world, as the death of a node does.

local driver = require "exed.task.driver"
local hosts = require "exed.task.operations"
local names = require "exed.inventory.names"
local program = require "exed.task.program"
local session = require "exed.task.session"
local sources = require "exed.task.sources"
local threads = require "exed.task.threads"
local world = require "exed.task.world"

local rehearsal = {}

local fleet = {}
fleet.__index = fleet

local MAX_KILLS <const> = 30 -- in one run
local KILLED <const> = {} -- raised where the node dies
local EPOCH <const> = 1700000000 -- the virtual clock's start, in UTC seconds

-- ---- the fleet ----------------------------------------------------------------------------------

local function vars_of(vars, name)
  if type(vars) == "function" then return vars(name) or {} end
  return vars or {}
end

local function groups_of(groups, name)
  local list = { "all" }
  for group, members in pairs(groups or {}) do
    for _, member in ipairs(members) do
      if member == name then list[#list + 1] = group end
    end
  end
  table.sort(list)
  return list
end

-- A fleet where everything succeeds. spec: names or ranges ("web[01:20]"), vars (a table for all,
-- or fn(name) -> table), groups (name -> list of hosts), dir (where the tasks are; by default the
-- directory of the file that calls).
function rehearsal.fleet(spec)
  local list = {}
  for _, text in ipairs(spec) do
    local expanded, problem = names.expand(text, 100000)
    if not expanded then error(("test.fleet: '%s': %s"):format(text, tostring(problem)), 2) end
    for _, name in ipairs(expanded) do
      list[#list + 1] = {
        name = name, address = name, vars = vars_of(spec.vars, name),
        groups = groups_of(spec.groups, name),
      }
    end
  end
  local caller = debug.getinfo(2, "S").source:match "^@(.*)/[^/]*$" or "."
  return setmetatable({
    hosts = list, rules = {}, pages = {}, tallies = {},
    approval = { approved = true, who = "test" },
    sources = sources.new { spec.dir or caller },
  }, fleet)
end

-- A fleet of hosts as the inventory describes them. options: hosts (a list), sources (of
-- exed.task.program).
function rehearsal.of(options)
  return setmetatable({
    hosts = options.hosts, rules = {}, pages = {}, tallies = {},
    approval = { approved = true, who = "nobody" },
    sources = options.sources,
  }, fleet)
end

-- How hosts answer; the newest rule that fits counts. rule: op, host (a pattern), what (a part of
-- the command), times; seconds that it takes; the other fields are the record's, or
-- reply = fn(host, fields) -> record.
function fleet:answer(rule)
  rule.left = rule.times
  table.insert(self.rules, 1, rule)
end

-- How web servers answer: pattern is a Lua pattern for the URL; answer { status, body, headers },
-- or fn(url, effect) -> answer, or nil for none.
function fleet:http(pattern, answer)
  table.insert(self.pages, 1, { pattern = pattern, answer = answer })
end

-- How people answer: { approved, who, note } or { timeout = true }.
function fleet:approve(answer) self.approval = answer end

-- What host:tally(name) begins with, as if noted just before the task begins.
function fleet:tally(host, name, times) self.tallies[host .. " " .. name] = times end

-- ---- one life of a node -------------------------------------------------------------------------

-- The journal: entries are kept; a kill comes before or after that, as a node may die.
local function make_write(state)
  local function point(kind)
    state.events = state.events + 1
    if state.kill(kind, state.events) then error(KILLED, 0) end
  end
  return function(entries)
    local asks, answers = false, false
    for _, entry in ipairs(entries) do
      if entry.ask then asks = true else answers = true end
    end
    if asks then point "asked" end
    if answers then point "after" end
    table.move(entries, 1, #entries, #state.journal + 1, state.journal)
    for _, entry in ipairs(entries) do state.world:note(entry) end
    if asks then point "before" end
    if answers then point "journaled" end
    return true
  end
end

-- Runs one life of a node. Returns the result, or nil when it was killed.
local function live(state)
  local fibers, outbox = threads.new(), {}
  local d, result, killed
  local s = session.new {
    start = state.start, sources = state.sources,
    emit = function(message) d:push(message) end,
    output = function(n, index, stream) return state.world:output(n, index, stream) end,
  }
  d = driver.new {
    entries = state.journal, write = make_write(state), event = fibers:event(),
    execute = function(effect, settle, done) state.world:execute(effect, settle, done) end,
    cancel = function(effect) state.world:cancel(effect) end,
    send = function(message) outbox[#outbox + 1] = message end,
    now = function() return EPOCH + state.world.now end,
    print = function(text) state.printed[#state.printed + 1] = text end,
    host_name = function(index) return state.start.hosts[index + 1].name end,
  }
  fibers:spawn(function()
    local ok, found = pcall(d.run, d)
    if not ok and found ~= KILLED then error(found, 0) end
    killed, result = not ok, ok and found or nil
  end)
  state.world.drop = d
  s:start()
  while true do
    fibers:run()
    if result or killed then break end
    state.cancel(d)
    local message = table.remove(outbox, 1)
    if message then
      s:deliver(message)
    elseif not state.world:step() and #d.inbox == 0 then
      error("the task waits for something that never comes", 0)
    end
  end
  state.world:forget_waiters()
  return result
end

-- ---- running ------------------------------------------------------------------------------------

local function pick_targets(self, text)
  local all, shared = {}, {}
  for i, one in ipairs(self.hosts) do all[i] = hosts.host(one, i - 1, shared) end
  local found, by_name = hosts.set(all):match(text or "all"), {}
  for _, one in ipairs(self.hosts) do by_name[one.name] = one end
  local list = {}
  for i, host in ipairs(found) do list[i] = by_name[host.name] end
  return list
end

local function make_start(self, name, options)
  local task, problem = program.load(self.sources, name, program.modules(), function() end)
  if not task then error(problem, 0) end
  local args, err = task.checker:check(options.args or {}, "json")
  if not args then error(err.message, 0) end
  return {
    name = name, args = args, hosts = pick_targets(self, options.targets), jid = "rehearsal",
    who = options.who or "test", dry_run = options.dry_run, at = EPOCH, seed = 1,
  }
end

local function as_map(list)
  local map = {}
  for _, outcome in ipairs(list) do
    map[outcome.host] = { status = outcome.status, text = outcome.text }
  end
  return map
end

local function run(self, name, options, kill)
  local start = make_start(self, name, options)
  local state = {
    start = start, sources = self.sources, journal = {}, events = 0, printed = {},
    world = world.new(self, start), kill = kill,
  }
  function state.cancel(d)
    if options.cancel_at and not state.cancelled and d.asked >= options.cancel_at then
      state.cancelled = true
      d:stop("cancelled", "cancelled")
    end
  end
  for _, rule in ipairs(self.rules) do rule.left = rule.times end
  local result
  repeat result = live(state) until result
  return {
    state = result.ok and 0 or 2, ok = result.ok, value = result.value, error = result.error,
    outcomes = as_map(result.outcomes or {}), steps = state.world.steps, said = state.world.said,
    history = state.world.history,
    printed = state.printed, journal = state.journal, events = state.events,
    seconds = state.world.now,
  }
end

-- Runs a task. options: args, targets (a pattern), cancel_at (cancelled once so many effects were
-- asked), kill_at (the node dies at that event, or at each of a list).
-- Returns state (0 done, 2 failure), value, error, outcomes (by host: status, text), steps (list of
-- { key, op, host, what, at }), said (list), history (both, in their order), printed, seconds (of
-- the virtual clock).
function fleet:run(name, options)
  options = options or {}
  local at = {}
  for _, n in ipairs(type(options.kill_at) == "table" and options.kill_at or { options.kill_at }) do
    at[n] = true
  end
  return run(self, name, options, function(_, event) return at[event] end)
end

-- ---- surviving ----------------------------------------------------------------------------------

-- How often each step that may not be repeated was taken.
local function count_steps(steps)
  local times = {}
  for _, step in ipairs(steps) do
    if not step.repeatable then
      local key = ("%s %s %s"):format(step.key, step.host, step.what)
      times[key] = (times[key] or 0) + 1
    end
  end
  return times
end

-- What is said is said once.
local function compare_said(whole, found)
  local left = {}
  for _, text in ipairs(whole.said) do left[text] = (left[text] or 0) + 1 end
  for _, text in ipairs(found.said) do
    left[text] = (left[text] or 0) - 1
    if left[text] < 0 then error("said once more when the node was killed: " .. text, 0) end
  end
  for text, times in pairs(left) do
    if times > 0 then error("not said when the node was killed: " .. text, 0) end
  end
end

local function compare(whole, found)
  local want, got = count_steps(whole.steps), count_steps(found.steps)
  for key, times in pairs(got) do
    if times > 1 then error(("done %d times: %s"):format(times, key), 0) end
    if not want[key] then error("done only when the node was killed: " .. key, 0) end
  end
  for key in pairs(want) do
    if not got[key] then error("not done when the node was killed: " .. key, 0) end
  end
  if whole.state ~= found.state then
    error(("state %d, without kills %d: %s"):format(found.state, whole.state,
      found.error and found.error.message or ""), 0)
  end
  for name, outcome in pairs(whole.outcomes) do
    local other = found.outcomes[name]
    if not other or other.status ~= outcome.status then
      error(("outcome of %s: %s, without kills %s"):format(name, other and other.status or "none",
        outcome.status), 0)
    end
  end
  compare_said(whole, found)
end

local ORDER <const> = { "asked", "before", "after", "journaled" }

-- Kills from the event `from` on, each time at another kind of event. Returns the kill function
-- and a table that tells the last event that was killed.
local function killer(from)
  local kills, told = 0, { last = nil }
  return function(kind, event)
    if event < from or kills >= MAX_KILLS then return false end
    if ORDER[kills % #ORDER + 1] ~= kind then return false end
    kills, told.last = kills + 1, event
    return true
  end, told
end

-- Runs the task again and again, killing the node at its events, up to 30 kills a run, until kills
-- have come everywhere: no step is taken twice or left out, and it ends the same.
-- fn(result) adds checks.
function fleet:survives(name, options, fn)
  options = options or {}
  local whole = run(self, name, options, function() return false end)
  if fn then fn(whole) end
  local from, runs = 1, 0
  repeat
    local kill, told = killer(from)
    local found = run(self, name, options, kill)
    local ok, problem = pcall(compare, whole, found)
    if not ok then
      error(("%s does not survive kills from event %d on: %s"):format(name, from, problem), 2)
    end
    if fn then fn(found) end
    runs, from = runs + 1, told.last and told.last + 1 or math.huge
  until from > whole.events
  return { runs = runs, events = whole.events }
end

-- ---- branches -----------------------------------------------------------------------------------

-- Runs the task once for each combination of success and failure of the named steps. Returns the
-- results, each with `failed`: the set of the steps that failed in it. fn(result) adds checks.
function fleet:branches(name, options, steps, fn)
  local list = {}
  for mask = 0, (1 << #steps) - 1 do
    local failing = {}
    for i, step in ipairs(steps) do failing[step] = mask & (1 << (i - 1)) ~= 0 or nil end
    self.failing = failing
    local result = run(self, name, options or {}, function() return false end)
    self.failing, result.failed = nil, failing
    if fn then fn(result) end
    list[#list + 1] = result
  end
  return list
end


return rehearsal
