-- SPDX-License-Identifier: MIT
-- Does the effects of one task or script in this process, at once, with no server and no journal.
-- What it gives is the backend that exed.task.runtime wants.
--
--   local here = alone.new { inventory, hosts, jid, show, executor, secrets, dirs }
--                              dirs: of tasks, whose files/NAME/ they send
--   here.backend               hosts: those of the inventory that effects name, by index + 1;
--                              secrets: exed.tasks.secrets
--   here:stop(reason [, all])  what runs is ended, but for what deferred functions do; or that, too
--
-- show has functions, all of which may be left out:
--   part(index, stream, bytes, effect)   output, as it comes       record(index, record, effect)
--   say(index or nil, text)   outcome(indexes, status, text)   print(text)
--   question(args) -> answer             asks the person here

local config = require "exed.config"
local direct = require "exed.tasks.direct"
local enclosures = require "exed.tasks.enclosures"
local fanout = require "exed.fanout"
local fiber = require "exed.fiber"
local json = require "exed.json"
local own = require "exed.plan.own"
local plan = require "exed.plan"
local plugins = require "exed.plugins"
local reach = require "exed.reach"
local request = require "exed.tasks.request"
local secrets = require "exed.tasks.secrets"
local sending = require "exed.sending"
local sys = require "exed.sys"
local timer = require "exed.timer"
local waits = require "exed.tasks.waits"

local alone = {}
alone.__index = alone

local EVENT_WAIT <const> = 3600 -- seconds; longer waits are asked for again
local MOST <const> = 64 << 10 -- bytes of a stream that a task sees
local STREAMS <const> = { "stdout", "stderr" }

-- ---- plans --------------------------------------------------------------------------------------

-- The executor of that name: yours in [runner] modules, else the one that is shipped.
local function load_executor(self, name)
  if self.executors[name] then return true end
  for _, dir in ipairs { config.runner.modules, sys.share() } do
    local path = ("%s/executors/%s.lua"):format(dir, name)
    if sys.stat(path) then
      local found, wrong = plugins.load(path, "executor", name)
      self.executors[name] = found
      return found ~= nil, wrong
    end
  end
  return false, ("there is no executor %q"):format(name)
end

-- What the run has of the files that it sends: the first of a name counts.
local function new_pins()
  local pinned = {}
  return function(key, sum)
    pinned[key] = pinned[key] or sum
    return pinned[key]
  end
end

local function make_plan(self, effect)
  local name = self.executor or config.runner.executor
  local ok, wrong = load_executor(self, name)
  if not ok then return nil, wrong end
  local node = { config = config, plugins = { executors = self.executors } }
  local args
  args, wrong = enclosures.prepare(effect.args, self.enclosed)
  if not args then return nil, wrong end
  local asked, hosts = request.of(args, name), {}
  for i, index in ipairs(args.hosts) do hosts[i] = self.hosts[index + 1] end
  local made, err = plan.ask(node, asked, hosts)
  if not made then return nil, err.message end
  local filled = plan.fill(node, {
    jid = self.jid, request = asked, slices = 1, total = #effect.args.hosts,
  }, { k = 0 }, made)
  filled.op = ("%s.%d"):format(self.jid, effect.n)
  filled.lines = self.show.part ~= nil and not made.quiet_record and not filled.facts
  request.apply(filled, args)
  local sent
  sent, err = sending.attach(filled, made, true)
  if not sent then return nil, err.message end
  ok, wrong = enclosures.check(args, sent, self.enclosed)
  if not ok then return nil, wrong end
  filled.hidden = effect.hidden
  return filled, made.repeatable, sent
end

-- ---- operations ---------------------------------------------------------------------------------

-- Output that came in parts, as much of it as a task sees.
local function keep_part(kept, entry)
  local key = 2 * entry.index + entry.stream
  local one = kept[key] or { size = 0 }
  kept[key] = one
  if one.size >= MOST then
    one.cut = true
    return
  end
  one[#one + 1] = entry.data
  one.size = one.size + #entry.data
end

local function to_record(entry, kept)
  local record = json.decode(entry.data) or {}
  record.i, record.status = entry.index, entry.status
  for stream, name in ipairs(STREAMS) do
    local parts = kept[2 * entry.index + stream]
    local text = parts and table.concat(parts) or record[name]
    if text and (#text > MOST or parts and parts.cut) then
      text, record.truncated = text:sub(1, MOST), true
    end
    record[name] = text
  end
  return record
end

-- Takes the entries of a fan-out to its end.
local function collect(self, effect, run, records)
  local kept, show = {}, self.show
  while true do
    local list = run:next()
    if not list then return end
    for _, entry in ipairs(list) do
      if entry.kind == "part" then
        keep_part(kept, entry)
        if show.part then show.part(entry.index, entry.stream, entry.data, effect) end
      else
        local record = to_record(entry, kept)
        records[#records + 1] = record
        if show.record then show.record(entry.index, record, effect) end
      end
    end
    if show.flush then show.flush() end
  end
end

-- Hosts by transport, and the records of those that are not tried.
local function sort(self, effect, filled, repeatable)
  local groups, records, asks = {}, {}, own.new(filled, config)
  for _, index in ipairs(effect.args.hosts) do
    local host = self.hosts[index + 1]
    local record, mine = reach.untried(host, repeatable), nil
    if asks and not record then mine, record = asks:record_or(host) end
    if record then
      record.i = index
      records[#records + 1] = record
      if self.show.record then self.show.record(index, record, effect) end
    else
      local kind = host.connection == "local" and "local" or filled.transport
      local group = groups[kind] or { hosts = {}, indexes = {}, own = {} }
      groups[kind] = group
      table.insert(group.hosts, reach.handle(self.inventory, host))
      table.insert(group.indexes, index)
      table.insert(group.own, mine or false)
    end
  end
  return groups, records
end

local function is_stopped(self, effect)
  return self.stopped and (self.all_stopped or not effect.cleanup)
end

local function run_op(self, effect)
  local filled, repeatable, sent = make_plan(self, effect)
  if not filled then return direct.failed("failed", repeatable) end
  local groups, records = sort(self, effect, filled, repeatable)
  for _, kind in ipairs { "local", "ssh" } do
    local group = groups[kind]
    if group then
      filled.transport = kind
      local run, err = fanout.start(filled, group.hosts, group.indexes, nil, group.own)
      if not run then return direct.failed("failed", err.message) end
      self.running[effect] = function() run:cancel(self.stopped) end
      if is_stopped(self, effect) then run:cancel(self.stopped) end
      collect(self, effect, run, records)
      sending.note(records, sent)
      self.running[effect] = nil
    end
  end
  return { records = records }
end

-- ---- the other effects --------------------------------------------------------------------------

-- Runs fn in a fiber that a stop ends; returns what it returns.
local function interruptible(self, effect, fn)
  local event, answer = fiber.event(), nil
  local handle, err = fiber.spawn("effect", function()
    local ok, found = pcall(fn)
    answer = answer or ok and found
      or direct.failed("failed", "inside exed: " .. tostring(found))
    event:notify()
  end)
  if not handle then return direct.failed("failed", err.message) end
  self.running[effect] = function()
    answer = answer or direct.failed("cancelled", self.stopped)
    handle:cancel(self.stopped)
    event:notify()
  end
  while not answer do event:wait(EVENT_WAIT) end
  self.running[effect] = nil
  return answer
end

local function run_wait(self, effect)
  local answer = waits.run({
    inventory = self.inventory, jid = self.jid, seen = self.seen,
    op_id = ("%s.%d"):format(self.jid, effect.n),
    host = function(index) return self.hosts[index + 1] end,
    pause = timer.sleep, stopped = function() end, begun = function() end,
  }, effect.args)
  for _, record in ipairs(answer.records or {}) do
    if self.show.record then self.show.record(record.i, record, effect) end
  end
  return answer
end

local kinds = {}

function kinds.op(self, effect)
  if waits.is(effect.args) then
    return interruptible(self, effect, function() return run_wait(self, effect) end)
  end
  if effect.args.hosts[1] ~= -1 then return run_op(self, effect) end
  local refused = direct.refused(effect.args, config.tasks.local_commands)
  if refused then return refused end
  return interruptible(self, effect, function()
    return direct.command(effect.args, ("%s.%d"):format(self.jid, effect.n))
  end)
end

function kinds.sleep(self, effect)
  return interruptible(self, effect, function()
    timer.sleep(effect.args.seconds)
    return {}
  end)
end

function kinds.http(self, effect)
  return interruptible(self, effect, function()
    return direct.http(effect.args, ("%s.%d"):format(self.jid, effect.n))
  end)
end

function kinds.approval(self, effect)
  if not self.show.question then
    return direct.failed("failed", "there is nobody to ask: an approval needs a task")
  end
  return interruptible(self, effect, function() return self.show.question(effect.args) end)
end

-- Without a store it is known for this run only.
function kinds.tally(self, effect)
  local args = effect.args
  local key = args.host .. " " .. args.name
  if args.change == "clear" then self.tallies[key] = nil end
  local times = self.tallies[key] or {}
  if args.change == "add" then
    self.tallies[key] = times
    times[#times + 1] = timer.wall()
  end
  local count = 0
  for _, at in ipairs(times) do count = count + (at >= timer.wall() - args.within and 1 or 0) end
  return { count = count }
end

-- ---- the backend --------------------------------------------------------------------------------

local function ask(self, effect)
  local args, hidden = self.secrets:reveal(effect.args)
  local answer
  if not args then
    answer = direct.failed("failed", hidden)
  elseif is_stopped(self, effect) then
    answer = direct.failed("cancelled", self.stopped)
  else
    effect.args, effect.hidden = args, #hidden > 0 and hidden or nil
    answer = secrets.mask(kinds[effect.kind](self, effect), hidden)
  end
  answer.at = timer.wall()
  return answer
end

local function note(self, effect)
  local args, show = effect.args, self.show
  if effect.kind == "say" and show.say then show.say(args.host, args.text) end
  if effect.kind == "outcome" and show.outcome then
    show.outcome(args.hosts, args.status, args.text)
  end
end

local function new_event()
  local event = fiber.event()
  return {
    wait = function() repeat local ok = event:wait(EVENT_WAIT) until ok end,
    notify = function() event:notify() end,
  }
end

function alone.new(options)
  local self = setmetatable({
    inventory = options.inventory, hosts = options.hosts, jid = options.jid,
    executor = options.executor, show = options.show or {}, executors = {},
    secrets = options.secrets or secrets.new(config.tasks.secrets, function() return {} end),
    enclosed = { dirs = options.dirs or {}, pin = new_pins() },
    seen = {}, -- index -> the boot id that waits saw last
    tallies = {}, -- host and name -> times
    running = {}, -- effect -> what ends it
  }, alone)
  self.backend = {
    ask = function(effect) return ask(self, effect) end,
    note = function(effect) note(self, effect) end,
    output = function() return "" end, -- records come whole
    spawn = function(fn) assert(fiber.spawn("task", fn)) end,
    event = new_event, print = self.show.print or print,
  }
  return self
end

function alone:stop(reason, all)
  if self.stopped and (self.all_stopped or not all) then return end
  self.stopped, self.all_stopped = reason, all
  for effect, cancel in pairs(self.running) do
    if all or not effect.cleanup then cancel() end
  end
end

return alone
