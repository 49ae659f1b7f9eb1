-- SPDX-License-Identifier: MIT
-- What runs of one local process over many hosts have in common. For its owner such a run is as a
-- fan-out: cancel, pause, drain, abandon, running, waiting, wait. exed.ansible.run and
-- exed.process.run are made of it; each has
--
--   run.kind                               "ansible", ...: of which its places and directories are
--   run:play(hosts) -> true | nil, err     one process over hosts that have not started; what it
--                                          reads is in run.dir, which is removed afterwards
--   run:settle(ended)                      accounts for the hosts that have no record; ended: of
--                                          exed.program, { error }, or nil when none was started
--   run.most                               processes of its kind on this node, at once

local dir = require "exed.process.dir"
local fiber = require "exed.fiber"
local timer = require "exed.timer"
local writer = require "exed.process.writer"

local base = {}
base.__index = base

base.LOOK = 0.2 -- seconds between two looks while something is to be done soon
base.IDLE = 5 -- and otherwise

-- The places on a node for processes of that kind: { running, event }.
local function places_of(node, kind)
  node.processes = node.processes or {}
  node.processes[kind] = node.processes[kind] or { running = 0, event = fiber.event() }
  return node.processes[kind]
end

-- A run of that kind (a table of methods, with itself as __index). work, made: as targets.run has
-- them; group: handles, indexes and found (hosts of the inventory).
function base.new(kind, node, work, made, group, repeatable)
  local self = setmetatable({
    node = node, work = work, made = made, marks = not repeatable,
    hosts = {}, by_name = {}, event = fiber.event(), places = places_of(node, kind.kind),
    dir = ("%s/%s.%d.%d"):format(dir.place(node.dir:path(), kind.kind), work.jid, work.effect,
      work.k),
  }, kind)
  for i, found in ipairs(group.found) do
    local index = group.indexes[i]
    local host = {
      name = found.name, index = index, handle = group.hosts[i], found = found, phase = "waiting",
      is_local = found.connection == "local", op = ("%s.%d.1"):format(made.op, index),
    }
    self.hosts[i], self.by_name[host.name] = host, host
  end
  self.writer = writer.new(node, work, self)
  return self
end

-- ---- what its owner says ------------------------------------------------------------------------

function base:kill()
  if self.child then self.child:kill() end
  self.event:notify()
end

function base:cancel(reason)
  self.stop = self.stop or reason
  self:kill()
end

-- The slice is not ours any more: nothing more is written.
function base:abandon()
  self.left = true
  self:kill()
end

function base:pause(paused)
  self.paused = paused
  self.event:notify()
end

function base:drain()
  self.draining = true
  self.event:notify()
end

function base:of_phase(phase)
  local list = {}
  for _, host in ipairs(self.hosts) do
    if host.phase == phase then list[#list + 1] = host end
  end
  return list
end

function base:waiting() return #self:of_phase "waiting" end

function base:running(max)
  local list, now = {}, timer.now()
  for _, host in ipairs(self:of_phase "running") do
    if #list == max then break end
    list[#list + 1] = { index = host.index, phase = "command", seconds = now - host.at }
  end
  return list
end

-- ---- hosts --------------------------------------------------------------------------------------

function base.begin(_, host) -- luacheck: ignore 212
  host.phase, host.started, host.at = "running", timer.wall(), timer.now()
end

-- Has a record made of a host that is still without one, by make(self, host, found).
function base:account(host, make, found)
  if host.phase ~= "done" then self.writer:done(host, make(self, host, found)) end
end

-- ---- all of it ----------------------------------------------------------------------------------

-- Waits for a place; returns what gives it back.
local function take_place(self)
  local places = self.places
  while places.running >= self.most and not self.stop and not self.left do
    places.event:wait(base.LOOK)
  end
  places.running = places.running + 1
  return setmetatable({}, { __close = function()
    places.running = places.running - 1
    places.event:notify()
  end })
end

local function play(self)
  local remove <close> = setmetatable({}, { __close = function() -- luacheck: ignore remove
    dir.remove(self.dir)
  end })
  return self:play(self:of_phase "waiting")
end

-- Runs it to the last record in the store. Returns how many hosts were not started, since the node
-- ends, or nil, err.
function base:wait()
  local place <close> = take_place(self) -- luacheck: ignore place
  repeat
    local ok, err = true, nil
    if self.stop then
      self:settle(nil)
    elseif not self.left then
      ok, err = play(self)
    end
    if not ok then self:settle { error = err.message } end
    self.writer:flush()
  until not self.again or self.stop or self.left or self:waiting() == 0
  if self.writer.lost then return nil, self.writer.lost end
  if self.left then return nil, { code = "closed", message = "abandoned" } end
  return self:waiting()
end

return base
