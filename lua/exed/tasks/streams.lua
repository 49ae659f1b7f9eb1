-- SPDX-License-Identifier: MIT
-- Ops of a task that ask the same of one host each, as the bodies of an each.window do: they share
-- a fan-out that stays open, one sink, and one fiber. What such a host costs is then what it costs
-- in an operation. Their records come here when the store has them, so nothing is read back.
--
--   local found = streams.new(effects)       exed.tasks.effects
--   found:take(effect, done, lost) -> whether it is done so; done(answer) is called once, unless
--                                     the node ends or does not own the task any more: lost(err)
--   found:cancel(effect)                     ends it, and what runs in its fan-out beside it
--   found:pause(boolean)   found:abandon()   found:hosts(list)
--   found:close()                            no more effects come: its fan-outs and fibers end

local config = require "exed.config"
local fanout = require "exed.fanout"
local fiber = require "exed.fiber"
local json = require "exed.json"
local ops = require "exed.tasks.ops"
local outputs = require "exed.tasks.outputs"
local own = require "exed.plan.own"
local plan_check = require "exed.plan.check"
local reach = require "exed.reach"
local sink = require "exed.sink"

local streams = {}
streams.__index = streams

local MOST <const> = 8 -- fan-outs of one task that are open for more hosts

-- Operations that send nothing which would have to be opened first.
local SHARED <const> = {
  execute = true, facter = true, fetch = true, ping = true, restore = true, service = true,
}

function streams.new(effects)
  return setmetatable({
    effects = effects, open = {}, list = {}, uses = 0,
    executor = effects.executor or effects.node.config.runner.executor,
  }, streams)
end

-- Whether nothing secret is in it: what a secret is may change from one op to the next.
local function is_plain(fields)
  if type(fields.stdin) == "table" then return false end
  for _, value in pairs(fields.env or {}) do
    if type(value) == "table" then return false end
  end
  return true
end

-- The host of an effect, when nothing of it has to be told apart; exed.targets knows the others.
local function host_of(self, index, repeatable)
  local effects = self.effects
  local inventory = effects.node.holder.inventory
  local host = inventory.by_name[effects.names[index + 1]]
  if not host or host.connection ~= "ssh" or host.problem or reach.disabled(host)
    or host.become_other and not repeatable then
    return nil
  end
  return reach.handle(inventory, host)
end

-- What an op asks, whichever host it is: equal ones share a fan-out.
local function key_of(effect, node)
  local args = effect.args
  local hosts = args.hosts
  args.hosts = nil
  local key = json.encode(args)
  args.hosts = hosts
  return ("%s %d %s"):format(effect.cleanup and "cleanup" or "", node.plugins.generation, key)
end

-- ---- one fan-out --------------------------------------------------------------------------------

local function forget(self, stream)
  if self.open[stream.key] == stream then self.open[stream.key] = nil end
end

-- It takes no more hosts, and ends with those that it has.
local function close(self, stream)
  forget(self, stream)
  stream.run:close()
end

local function finish(self, stream, effect)
  stream.pending[effect.n] = nil
  self.effects.running[effect] = nil
end

-- The fan-out has ended. What has no record then is the next owner's.
local function ended(self, stream, err)
  forget(self, stream)
  self.list[stream] = nil
  local lost
  for _, one in pairs(stream.pending) do
    self.effects.running[one.effect] = nil
    lost = one.lost
  end
  stream.pending = {}
  if lost then lost(err) end
end

-- Hands on the records of a fan-out until it has ended.
local function serve(self, stream)
  while true do
    local list, err = stream.run:taken()
    if not list then return ended(self, stream, err) end
    for i = 1, #list, 4 do
      local one = stream.pending[list[i]]
      finish(self, stream, one.effect)
      one.done { records = { outputs.record(list[i + 1], list[i + 2], list[i + 3]) } }
    end
  end
end

-- The least used one makes room.
local function make_room(self)
  local n, oldest = 0, nil
  for _, stream in pairs(self.open) do
    n = n + 1
    if not oldest or stream.used < oldest.used then oldest = stream end
  end
  if n >= MOST then close(self, oldest) end
end

local function begin(self, effect, key)
  local effects = self.effects
  local slice = effects.slice
  local filled, repeatable = ops.plan(effects, effect)
  if not filled or filled.ansible or filled.transport ~= "ssh" or filled.no_command
    or own.new(filled, config) then
    return nil
  end
  filled.op, filled.open = slice.jid, true
  make_room(self)
  local run = fanout.start(filled, {}, {}, sink.new(effects.node.conn, {
    jid = slice.jid, k = slice.k, epoch = slice.epoch, effect = effect.n, open = true,
    job_output = config.store.job_output, marks = not repeatable,
    name = effect.args.step or effect.args.op,
  }))
  if not run then return nil end
  local stream = {
    key = key, run = run, pending = {}, repeatable = repeatable, cleanup = effect.cleanup,
  }
  if not fiber.spawn("task " .. slice.jid .. " ops", serve, self, stream) then
    run:close()
    return nil
  end
  if effects.paused and not effect.cleanup then run:pause(true) end
  self.open[key], self.list[stream] = stream, true
  return stream
end

-- ---- all of them --------------------------------------------------------------------------------

function streams:take(effect, done, lost)
  local args, effects = effect.args, self.effects
  local index = args.hosts[1]
  if args.hosts[2] or index < 0 or not SHARED[args.op] or not is_plain(args.fields)
    or effects.abandoned or not plan_check.SHIPPED[self.executor] then
    return false
  end
  local key = key_of(effect, effects.node)
  local stream = self.open[key] or begin(self, effect, key)
  local host = stream and host_of(self, index, stream.repeatable)
  if not host then return false end
  if not stream.run:add(host, index, effect.n) then
    close(self, stream)
    return false
  end
  self.uses = self.uses + 1
  stream.used = self.uses
  stream.pending[effect.n] = { effect = effect, done = done, lost = lost }
  effect.stream, effects.running[effect] = stream, true
  return true
end

-- A task that is stopped, or over, has none of its ops go on but those that put back, which have a
-- fan-out of their own.
function streams:cancel(effect)
  local stream = effect.stream
  if stream.cancelled then return end
  stream.cancelled = true
  stream.run:cancel(effect.stop)
  close(self, stream)
end

-- The job is paused, or goes on; what puts back goes on in any case.
function streams:pause(paused)
  for stream in pairs(self.list) do
    if not stream.cleanup then stream.run:pause(paused) end
  end
end

function streams:close()
  for stream in pairs(self.list) do close(self, stream) end
end

function streams:abandon()
  for stream in pairs(self.list) do stream.run:abandon() end
end

-- Adds the hosts that run: { index, phase, seconds }.
function streams:hosts(list)
  for stream in pairs(self.list) do
    for _, one in ipairs(stream.run:running(1000)) do list[#list + 1] = one end
  end
end

return streams
