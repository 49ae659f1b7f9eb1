-- SPDX-License-Identifier: MIT
-- A node among others: it registers, beats, and takes over what dead nodes owned. Nobody's clock is
-- compared with another's: a node is dead when its counter was seen to stand still, on our own
-- monotonic clock, over reads of our own that all went well.

local config = require "exed.config"
local fanout = require "exed.fanout"
local log = require "exed.log"
local store = require "exed.store"
local timer = require "exed.timer"

local membership = {}
membership.__index = membership

-- Beats in a node_timeout.
local BEATS <const> = 5
-- Reads that must have shown the same counter, and span node_timeout.
local READS <const> = 5
-- A longer gap between two of our reads proves nothing about others; seconds, at least two beats.
local GAP <const> = 2
-- So much of node_timeout after a beat was sent, hosts may be started on the strength of it.
local PERMIT <const> = 0.6
-- Slices taken over in one round.
local ROUND <const> = 100

function membership.new(node)
  -- permitted: until when hosts may be started (timer.now)
  return setmetatable({ node = node, seen = {}, read_at = nil, permitted = 0 }, membership)
end

function membership.period() return config.store.node_timeout / BEATS end

-- Hosts may start while others cannot think us dead.
local function permit_from(self, sent)
  self.permitted = sent + PERMIT * config.store.node_timeout
  fanout.permit(self.permitted)
end

-- Makes this process the current life of its node id.
function membership:register()
  local node = self.node
  local sent = timer.now()
  local incarnation, err = node.store:insist("register", node.id, node.version)
  if not incarnation then error(err.message) end
  node.incarnation = incarnation
  permit_from(self, sent)
  log.info("node", "id=%s incarnation=%d durability=%s", node.id, incarnation, node:durability())
end

-- The incarnation that the store knows of our id, 0 when of none; nil when it does not answer.
local function known_incarnation(self)
  local list = self:list()
  for _, one in ipairs(list or {}) do
    if one.id == self.node.id then return tonumber(one.incarnation) or 0 end
  end
  return list and 0
end

-- The store knows another life of our id: what we thought was ours is not. A later one is another
-- process with a copy of our state directory. Two nodes of one id would take it from each other for
-- ever, so this one takes another.
local function give_up(self)
  local node = self.node
  local known = known_incarnation(self)
  if not known then return end
  if known > node.incarnation then
    local id = node.id
    node.id = node.dir:new_node_id()
    log.error("node", "id=%s is another process's, too: its state directory and ours (%s) are "
      .. "copies. This node is id=%s from now on; what runs here is given up",
      id, node.dir:path(), node.id)
  else
    log.error("node", "the store has lost id=%s; what runs here is given up", node.id)
  end
  node.runner:abandon()
  self:register()
  node.runner:doubt()
end

local function beat(self)
  local node = self.node
  local sent = timer.now()
  local answer, err = node.store:call("beat", node.id, node.incarnation, node.runner.count)
  if answer then
    permit_from(self, sent)
  elseif err.code == "stale" then
    give_up(self)
  end
  return answer ~= nil
end

-- ---- watching -----------------------------------------------------------------------------------

local function to_fields(row)
  local fields = { id = row[1] }
  for i = 2, #row, 2 do fields[row[i]] = row[i + 1] end
  return fields
end

-- All registered nodes, as tables of texts with their id, or nil, err.
function membership:list()
  local rows, err = self.node.store:call "nodes"
  if not rows then return nil, err end
  for i, row in ipairs(rows) do rows[i] = to_fields(row) end
  return rows
end

-- Seconds for which a node's counter has stood still, as far as we saw; 0 for one that beats.
function membership:silence(id)
  local known = self.seen[id]
  if not known or known.reads < 2 then return 0 end
  return math.floor((timer.now() - known.since) * 10 + 0.5) / 10
end

-- A gap in our reads (we were stopped, or the store was), or another connection since the last one,
-- makes every count start again.
local function is_gap(self, now)
  local longest = math.max(GAP, 2 * membership.period())
  local connects, known = self.node.conn:info().connects, self.connects
  self.connects = connects
  return not self.read_at or now - self.read_at > longest or connects ~= known
end

-- Notes what was read of a node; returns whether it must be dead.
local function judge(self, other, now)
  local known = self.seen[other.id]
  if not known or known.beat ~= other.beat or known.incarnation ~= other.incarnation then
    self.seen[other.id] = {
      beat = other.beat, incarnation = other.incarnation, since = self.read_at, reads = 1,
    }
    return false
  end
  known.reads = known.reads + 1
  return known.reads >= READS and now - known.since >= config.store.node_timeout
end

-- Takes the slices of a dead node, each by compare-and-swap: one that moved meanwhile is left.
local function take_over(self, dead)
  local node = self.node
  local rows = node.store:call("owned", dead.id, ROUND)
  if not rows then return end
  for _, row in ipairs(rows) do
    local slice, err = node.store:take_over(node, row, dead)
    if not slice and store.is_passing(err) then node.runner:doubt() end
    if slice then
      log.warn("node", "jid=%s slice=%d is taken over from node %s", slice.jid, slice.k, dead.id)
      node.runner:start(slice)
    end
  end
  if #rows == 0 then
    self:undo_accepting(dead.id)
    node.store:call("forget", dead.id, dead.beat)
    self.seen[dead.id] = nil
  end
end

local function watch(self)
  local now = timer.now()
  local list = self:list()
  if not list then
    self.seen, self.read_at = {}, nil
    return
  end
  if is_gap(self, now) then self.seen = {} end
  self.read_at = timer.now()
  for _, other in ipairs(list) do
    if other.id ~= self.node.id and judge(self, other, now) and config.runner.role ~= "api" then
      take_over(self, other)
    end
  end
end

-- One beat and one look at the others.
function membership:turn()
  if not self.node.incarnation or self.left then return end
  if not beat(self) then self.seen, self.read_at = {}, nil end
  watch(self)
end

-- The last of a node that ends in good order: nobody has to wait until it was silent long enough.
-- It stays listed while it owns slices (the store refuses to forget it then) or was accepting a
-- job: somebody has to take these over. Returns whether the store answered.
function membership:leave()
  local node = self.node
  self.left = true
  local accepting = node.incarnation and node.store:call "accepting"
  for _, row in ipairs(accepting or {}) do
    if row[2] == node.id then return true end
  end
  for _, other in ipairs(accepting and self:list() or {}) do
    if other.id == node.id then node.store:call("forget", node.id, other.beat) end
  end
  return accepting ~= nil
end

-- Undoes the jobs that the node was accepting when it died; of this node, those of its former
-- lives.
function membership:undo_accepting(id)
  local node = self.node
  for _, row in ipairs(node.store:insist "accepting" or {}) do
    local dead = row[2] == id and (id ~= node.id or tonumber(row[3]) < node.incarnation)
    if dead then
      log.warn("node", "jid=%s was never accepted and is undone", row[1])
      node.store:insist("create_undo", row[1])
      node.store:remove(row[1])
    end
  end
end

return membership
