-- SPDX-License-Identifier: MIT
-- A dry run of a task on this node: its Lua runs in a process of its own, as ever, and the real
-- driver drives it, but hosts, time and the journal are made up (exed.task.world): all succeeds, a
-- clock jumps to what happens next, and nothing is touched. Facts are the last known.

local config = require "exed.config"
local driver = require "exed.task.driver"
local fiber = require "exed.fiber"
local in_turns = require "exed.in_turns"
local jobs = require "exed.jobs"
local json = require "exed.json"
local messages = require "exed.tasks.messages"
local process = require "exed.tasks.process"
local secrets = require "exed.tasks.secrets"
local sys = require "exed.sys"
local timer = require "exed.timer"
local world = require "exed.task.world"

local rehearse = {}

local AT_ONCE <const> = 4 -- dry runs; each has a process
local LIMIT <const> = 20 -- seconds for one
local WAIT <const> = 0.5 -- seconds after which it looks whether that has passed
local FACTS_JOBS <const> = 5 -- the newest jobs of facter in which facts are looked for,
local LOOKED_AT <const> = 200 -- among so many jobs
local PAGE <const>, PAGE_BYTES <const> = 500, 4 << 20 -- of their records at once

local running = 0

-- ---- facts --------------------------------------------------------------------------------------

-- Takes the facts of a job's records for those of `wanted` (a set of names) that have none yet.
local function take_facts(node, jid, facts, wanted)
  local names, after = node.store:targets(jid) or {}, 0
  while true do
    local page = node.store:page(jid, after, PAGE, PAGE_BYTES, true)
    if not page or #page.rows == 0 then return end
    for _, row in ipairs(page.rows) do
      local name, entry = names[row[2] + 1], row[6]
      after = row[1]
      if wanted[name] and not facts[name] and entry:find('"facts":', 1, true) then
        local record = json.decode(entry:match "{.*")
        facts[name] = record and record.facts
      end
    end
  end
end

local function last_facts(node, names)
  local jids, facts, wanted, looked = node.store:list(true) or {}, {}, {}, 0
  for _, name in ipairs(names) do wanted[name] = true end
  for i = #jids, math.max(1, #jids - LOOKED_AT + 1), -1 do
    local fields = looked < FACTS_JOBS and node.store:get(jids[i])
    if fields and fields.operation == "facter" then
      looked = looked + 1
      take_facts(node, jids[i], facts, wanted)
    end
  end
  return facts
end

-- ---- one dry run --------------------------------------------------------------------------------

local function new_fleet(facts)
  return {
    pages = {}, approval = { approved = true, who = "nobody" }, rules = { {
      op = "facter", reply = function(host)
        return { facts = facts[host.name] or { hostname = host.name } }
      end,
    } },
  }
end

-- Hands on what the process says, checked, until it ends.
local function read_messages(self)
  while true do
    local message = self.process:next()
    if not message then break end
    self.heard = timer.now()
    local checked, wrong = messages.check(message, #self.start.hosts)
    if not checked then
      self.why = self.why or "sent what its node does not take: " .. wrong
      self.process:kill()
    elseif checked.output then
      self.process:send { output = "" }
    elseif checked.stuck or checked.memory or checked.error then
      self.where = checked.stuck or checked.memory or checked.error:match "^[^\n]*"
    else
      self.driver:push(checked)
    end
  end
  self.process:kill()
  local why = self.why or self.process:why_ended() or "ended before its task"
  if self.where then why = ("%s (at %s)"):format(why, self.where) end
  self.driver:push { died = { code = "limit", message = "the task's process " .. why } }
end

-- The driver's event, which tells the clock when the driver waits.
local function new_event(self)
  local event = fiber.event()
  return {
    wait = function()
      self.clock:notify()
      event:wait(LIMIT)
    end,
    notify = function() event:notify() end,
  }
end

local function new_driver(self)
  return driver.new {
    entries = {}, event = new_event(self), max_effects = 100000, max_bytes = math.maxinteger,
    write = function(entries)
      for _, entry in ipairs(entries) do self.world:note(entry) end
      return true
    end,
    execute = function(effect, settle, done) self.world:execute(effect, settle, done) end,
    cancel = function(effect) self.world:cancel(effect) end,
    send = function(message) self.process:send(message) end,
    now = function() return self.start.at + self.world.now end,
    may_park = function() return false end, print = function() end,
    host_name = function(index) return self.start.hosts[index + 1].name end,
  }
end

local function any() return true end

-- A task that computes for too long, or waits for what never comes, is asked where it is, and
-- ended.
local function check_limits(self, deadline)
  if self.why then return end
  local limit = config.tasks.answer_limit
  if timer.now() - self.heard > limit then
    self.why = ("took more than %s s between two answers"):format(limit)
  elseif timer.now() > deadline then
    self.why = ("took more than %d s"):format(LIMIT)
  end
  if not self.why then return end
  self.process:probe()
  timer.sleep(WAIT)
  self.process:kill()
end

-- Lets time go on whenever the task waits for nothing but that. Returns the driver's result.
local function turn(self)
  local deadline = timer.now() + LIMIT
  while not self.result do
    self.clock:wait(WAIT)
    if not self.result and self.driver:waits_only(any) then
      self.world:tick()
    else
      check_limits(self, deadline)
    end
  end
  return self.result
end

-- hosts: those of start as JSON.
local function run(task, start, hosts, facts)
  local limits, order = config.tasks, {}
  for name, value in pairs(start) do order[name] = value end
  order.hosts = json.raw(hosts)
  local child, err = process.start({ memory = limits.memory, cpu = LIMIT }, process.modules(), {
    start = order, sources = task.sources,
  })
  if not child then return nil, err end
  local self = {
    start = start, process = child, clock = fiber.event(), heard = timer.now(),
  }
  self.world, self.driver = world.new(new_fleet(facts), start), nil
  self.driver = new_driver(self)
  local _ <close> = setmetatable({}, { __close = function() child:kill() end })
  local ok
  ok, err = fiber.spawn("dry run", read_messages, self)
  if ok then
    ok, err = fiber.spawn("dry run driver", function()
      self.result, self.problem = self.driver:run()
      self.result = self.result or { ok = false, error = self.problem }
      self.clock:notify()
    end)
  end
  if not ok then return nil, err end
  return turn(self), self.world
end

-- ---- the answer ---------------------------------------------------------------------------------

local function to_plan(result, seen, no_match)
  local steps = in_turns.json(#seen.history, function(i)
    local one = seen.history[i]
    return one.said and one or {
      at = one.at, host = one.host, op = one.op, what = one.what, step = one.step, path = one.key,
    }
  end)
  local good = result.ok and #no_match == 0
  return {
    state = good and 0 or 2, error = result.error and result.error.message or "",
    value = result.value, seconds = seen.now, steps = json.raw(steps), outcomes = seen.outcomes,
    no_match = #no_match > 0 and json.array(no_match) or nil,
  }
end

-- request: task (of exed.tasks.registry), values (its args), targets, max_hosts, who. Returns the
-- plan: what would be done, in its order, and how it would end; or nil, err.
function rehearse.run(node, request)
  local task = request.task
  local names, known = jobs.resolve(node, request)
  if not names then return nil, known end
  if task.max_hosts and #names > task.max_hosts then
    return nil, { code = "bad_request", message = ("%d targets are more than max_hosts of task %s, "
      .. "%d"):format(#names, task.name, task.max_hosts) }
  end
  if running >= AT_ONCE then
    return nil, { code = 503, message = ("%d dry runs are running, try again"):format(AT_ONCE) }
  end
  running = running + 1
  local _ <close> = setmetatable({}, { __close = function() running = running - 1 end })
  local inventory, described = node.holder.inventory, {}
  local hosts = in_turns.json(known, function(i)
    described[i] = inventory.describe(inventory.by_name[names[i]])
    return described[i]
  end)
  local result, seen = run(task, {
    name = task.name, args = secrets.hide(task.checker, request.values),
    hosts = described, jid = sys.uuid(), who = request.who, dry_run = true, at = timer.wall(),
    seed = 1,
  }, hosts, last_facts(node, names))
  if not result then return nil, seen end
  return to_plan(result, seen, table.move(names, known + 1, #names, 1, {}))
end

return rehearse
