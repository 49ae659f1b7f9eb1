-- SPDX-License-Identifier: MIT
-- Takes the records of one run of a local process to the store: started bits by `mark`, records by
-- `append` (lua/store/functions.lua). Calls are numbered, so each is done once, however often it is
-- asked.

local config = require "exed.config"
local log = require "exed.log"
local metrics = require "exed.metrics"

local writer = {}
writer.__index = writer

local WIDTH <const> = 5 -- fields of an entry
local ENTRIES <const> = 256 -- in one call
local BYTES <const> = 512 * 1024
-- What is kept of each stream once the job's outputs are over their limit, or the store is nearly
-- full.
local CUT <const> = 4096
local PART_COST <const> = 100 -- what a part costs the store beside its bytes
local WORD <const> = {
  [1] = "ok", [2] = "skipped", [3] = "failed", [4] = "unreachable", [5] = "changed",
}

-- owner: the run, which is stopped or left as the store says.
function writer.new(node, work, owner)
  return setmetatable({
    node = node, work = work, owner = owner, queue = {}, seq = 0, cap = nil, lost = nil,
  }, writer)
end

-- The slice is another's, or the node ends: nothing more of it is written here.
local function lose(self, err)
  if self.lost then return end
  self.lost = { code = err.code == "closed" and "closed" or "refused", message = err.message }
  log.warn("process", "jid=%s slice=%d is given up: %s", self.work.jid, self.work.k, err.message)
  self.owner:abandon()
end

-- Sets the started bits of a list of hosts, or makes sure that they are still ours. False: they may
-- not start.
function writer:mark(hosts)
  local work, indexes = self.work, {}
  for i, host in ipairs(hosts) do indexes[i] = host.index end
  local ok, err = self.node.store:insist("mark", work.jid, work.k, work.epoch, work.effect,
    table.unpack(indexes))
  if ok then return true end
  if err.code == "stopped" then
    self.owner:cancel(err.message)
  else
    lose(self, err)
  end
  return false
end

-- Queues a line of a host's output, which followers see before its record.
function writer:line(host, line)
  local at = host.told or 0
  host.told = at + #line
  local queue, n = self.queue, #self.queue
  queue[n + 1], queue[n + 2], queue[n + 3] = host.index, "part", 0
  queue[n + 4], queue[n + 5] = #line + PART_COST, ("1 %d\n"):format(at) .. line
end

-- Queues the entries of a host's end. found: status, record.
function writer:done(host, found)
  host.phase = "done"
  local plan = self.owner.plan
  local entries = found.record:entries(found.status, self.work.name or plan and plan.role)
  table.move(entries, 1, #entries, #self.queue + 1, self.queue)
  metrics.count("exed_records_total", ('status="%s"'):format(WORD[found.status]))
end

-- The next entries for one call, which leave the queue.
local function batch(self)
  local last, bytes = 0, 0
  while last < #self.queue and last < ENTRIES * WIDTH and bytes < BYTES do
    bytes = bytes + #self.queue[last + WIDTH]
    last = last + WIDTH
  end
  local some = table.move(self.queue, 1, last, 1, {})
  self.queue = table.move(self.queue, last + 1, #self.queue, 1, {})
  return some
end

-- Writes what is queued; waits until the store has it.
function writer:flush()
  local work = self.work
  while #self.queue > 0 and not self.lost do
    self.seq = self.seq + 1
    local answer, err = self.node.store:insist("append", work.jid, work.k, work.epoch, work.effect,
      self.seq, batch(self))
    if not answer then return lose(self, err) end
    if answer[3] > config.store.job_output or answer[5] == 1 then self.cap = CUT end
    if answer[4] ~= "" and not self.owner.stop then self.owner:cancel(answer[4]) end
  end
end

return writer
