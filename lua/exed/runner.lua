-- SPDX-License-Identifier: MIT
-- The runner: takes slices from the store and runs each in a fiber of its own. Lua is entered once
-- per slice; hosts are the fan-out's.

local config = require "exed.config"
local fiber = require "exed.fiber"
local guard = require "exed.guard"
local json = require "exed.json"
local log = require "exed.log"
local plan = require "exed.plan"
local reach = require "exed.reach"
local sending = require "exed.sending"
local store = require "exed.store"
local targets = require "exed.targets"
local tasks_run = require "exed.tasks.run"
local quote = require("exed.text").quote
local timer = require "exed.timer"

local runner = {}
runner.__index = runner

-- A lost wake-up is covered by looking this often, in seconds.
local POLL <const> = 1
-- While something runs: hosts start, and so a job of which there was enough may have room again.
local BUSY_POLL <const> = 0.2
-- Slices of this node's former life asked for in one call.
local RECLAIM <const> = 16
-- Slices looked at in one call when an answer was lost.
local OWNED <const> = 1000
-- Slices that a node holds at once, and hosts of them that wait to be started; beyond, others may
-- have them.
local MAX_SLICES <const> = 1000
local HOSTS_PER_PLACE <const> = 2
-- Seconds in which what runs on hosts is killed when the node ends.
local KILLING <const> = 3.5

function runner.new(node)
  return setmetatable({
    node = node, event = fiber.event(), kicked = false, slices = {}, count = 0,
    raised = {}, -- of slices whose run ended in an error: how often
    draining = false, doubtful = true, -- a reclaim's answer may be lost, too
    foreign = {}, -- jids of tasks that only other nodes can run
  }, runner)
end

-- There may be something to take.
function runner:kick()
  self.kicked = true
  self.event:notify()
end

-- ---- one slice ----------------------------------------------------------------------------------

-- The job as a slice needs it, or nil, err.
local function load_job(self, jid)
  local fields, err = self.node.store:insist("get", jid)
  if not fields then return nil, err end
  local job = { jid = jid }
  for i = 1, #fields, 2 do job[fields[i]] = fields[i + 1] end
  job.request = json.decode(job.request)
  job.slices = tonumber(job.slices)
  job.total = tonumber(job.targets)
  return job
end

-- Owners lost in a row, with no new record between, after which a slice is not tried again.
local POISONED <const> = 3

-- Those of the names that the inventory has.
local function hosts_of(inventory, names)
  local hosts = {}
  for _, name in ipairs(names) do hosts[#hosts + 1] = inventory.by_name[name] end
  return hosts
end

-- Opens what the slice's hosts are sent. All slices send the same, whichever nodes run them.
-- Returns nil, or an err.
local function attach(self, slice, filled, made)
  local sent, err = sending.attach(filled, made, true)
  if not sent then return err end
  if sent == true or not sent.sum then return nil end
  local first
  first, err = self.node.store:insist("pin", slice.jid, "file:source", sent.sum)
  if not first then return err end
  if first == sent.sum then return nil end
  return { code = "failed", message = "what is sent has changed since this job first sent it" }
end

-- Everything of one slice up to its end in the store. Returns true, or nil, err.
local function run_targets(self, slice, job)
  local names, marks, made, err
  names, err = self.node.store:targets(slice.jid, slice.from, slice.to)
  while not names and store.is_passing(err) do
    timer.sleep(POLL)
    names, err = self.node.store:targets(slice.jid, slice.from, slice.to)
  end
  if not names then return nil, err end
  reach.prepare(self.node.holder.inventory, names)
  if slice.epoch > 1 or slice.doubtful then
    marks, err = self.node.store:marks(slice, 0)
    if not marks then return nil, err end
  end
  made, err = plan.ask(self.node, job.request, hosts_of(self.node.holder.inventory, names))
  if not made then return nil, err end
  slice.effect, slice.names, slice.marks = 0, names, marks
  if job.request.operation == "deploy" and not made.ansible then
    slice.name = job.request.args.role
  end
  local filled = plan.fill(self.node, job, slice, made)
  err = attach(self, slice, filled, made)
  if err then
    log.error("runner", "jid=%s slice=%d cannot run: %s", slice.jid, slice.k, err.message)
    -- What a lost node had started is told as ever; what it had not come to is not sent.
    slice.lack = err.message
    filled.before = ("echo %s >&2\nexit 1\n"):format(quote { err.message })
  end
  return targets.run(self.node, slice, filled, made.repeatable)
end

local function finish(self, slice, ok, err)
  if ok then
    ok, err = self.node.store:slice_end(slice)
  elseif err.code == "closed" then
    -- The node ends, or the fan-out was given up; mostly since the slice is another's, which the
    -- store then says.
    ok, err = self.node.store:insist("hand_back", slice.jid, slice.k, slice.epoch)
  elseif err.code ~= "refused" then
    log.error("runner", "jid=%s slice=%d cannot run: %s", slice.jid, slice.k, err.message)
    ok, err = self.node.store:finish(slice, 2, err.message)
  end
  if not ok then
    log.warn("runner", "jid=%s slice=%d is not ours any more: %s", slice.jid, slice.k, err.message)
  end
end

-- A slice whose owners die of it is not tried a fourth time: the job is stopped.
local function stop_poisoned(self, slice)
  if slice.deaths < POISONED or slice.stop then return end
  slice.stop = ("poisoned: %d nodes died in a row while they ran it"):format(slice.deaths)
  local others = self.node.store:cancel(self.node, slice.jid, slice.stop)
  if not others then self:doubt() end
  for _, other in ipairs(others or {}) do self:start(other) end
end

local function key_of(slice) return slice.jid .. ":" .. slice.k end

local function run_owned(self, slice)
  local job, err = load_job(self, slice.jid)
  local ok
  if job then
    slice.windowed, slice.paused = job.request.window ~= nil, job.paused == "1"
    if slice.windowed then self:kick() end -- it may have looked like enough of the job
    stop_poisoned(self, slice)
    if job.operation == "task" then
      ok, err = tasks_run.slice(self.node, slice, job)
      if ok then return end -- the task has said how its job ended
      if err.code == "protocol" and not slice.stop then
        log.warn("runner", "jid=%s is left to another node: %s", slice.jid, err.message)
        self.foreign[slice.jid], err.code = true, "closed"
      end
    else
      ok, err = run_targets(self, slice, job)
    end
  end
  -- Its hosts must have records: handed back, it may fare better.
  if not ok and err.code == "memory" then error(err.message, 0) end
  finish(self, slice, ok, err)
end

-- How often a slice may end in an error that nobody foresaw before its job fails. Memory that is
-- out for a moment raises too, so once is not enough.
local MAX_RAISED <const> = 3

-- An error ended what ran a slice. It is handed back, so that whoever takes it looks what became
-- of its hosts; at last the job fails by it. Where that cannot be done either the node ends, and
-- its next life does it.
local function give_back(self, slice, key, text)
  self.raised[key] = (self.raised[key] or 0) + 1
  if slice.run then slice.run:abandon() end
  if slice.task then slice.task:abandon() end
  log.error("runner", "jid=%s slice=%d: %s", slice.jid, slice.k, text)
  if self.raised[key] < MAX_RAISED then
    return finish(self, slice, nil, { code = "closed" })
  end
  finish(self, slice, nil, { code = "failed", message = text:match "^[^\n]*" })
  self.raised[key] = nil
end

local function text_of(err)
  return tostring(type(err) == "table" and err.message or err)
end

local function run_slice(self, slice)
  local key = key_of(slice)
  self.slices[key] = slice
  self.count = self.count + 1
  local _ <close> = setmetatable({}, { __close = function()
    if self.slices[key] == slice then self.slices[key] = nil end
    self.count = self.count - 1
    self:kick()
  end })
  -- In a fiber of its own: one that ran out of its budget has nothing left to give back with.
  local called, ok, err = xpcall(guard.call, debug.traceback,
    "slice " .. slice.jid, math.huge, run_owned, self, slice)
  -- The store is not there any more, or will not be in a moment: the next life goes on.
  if slice.given_up or self.node.closed then return end
  if not called or not ok then return give_back(self, slice, key, text_of(called and err or ok)) end
  self.raised[key] = nil
end

-- Runs a slice that this node owns, in a fiber of its own; one that runs here already is left.
function runner:start(slice)
  local known = self.slices[key_of(slice)]
  if known and known.epoch == slice.epoch then return end
  -- A task that is to be run from its start again, with another source.
  if known then known.superseded = true end
  if known and known.task then known.task:abandon() end
  slice.fiber = fiber.vital("slice " .. slice.jid, run_slice, self, slice)
  if not slice.fiber then self:doubt() end
end

-- ---- taking -------------------------------------------------------------------------------------

-- A request's own window is shared out over its slices: a slice that waits elsewhere starts none.
local function waiting_of(slice)
  if slice.windowed then return 0 end
  if slice.run then return slice.run:waiting() end
  return slice.begun and 0 or slice.to - slice.from
end

-- The jobs of which enough hosts wait here: idle nodes, and small jobs, come before more of them.
-- nil when there is no room for any.
local function enough_of(self)
  if self.count >= MAX_SLICES then return nil end
  local waiting, all, jids = {}, 0, {}
  for _, slice in pairs(self.slices) do
    local hosts = waiting_of(slice)
    waiting[slice.jid], all = (waiting[slice.jid] or 0) + hosts, all + hosts
  end
  if all >= HOSTS_PER_PLACE * config.ssh.max_connections then return nil end
  for jid in pairs(self.foreign) do jids[#jids + 1] = jid end
  for jid, hosts in pairs(waiting) do
    if hosts >= config.ssh.window then jids[#jids + 1] = jid end
  end
  return jids
end

-- Takes slices while there are any and there is room. Returns whether the store answered.
local function take_all(self)
  while not self.draining do
    local enough = enough_of(self)
    if not enough then return true end
    local slices, err = self.node.store:take(self.node, 1, enough)
    if not slices then return nil, err end
    if #slices == 0 then return true end
    self:start(slices[1])
  end
  return true
end

-- Slices of this node's earlier life come first: nobody else may take them as long as it lives.
function runner:reclaim()
  repeat
    local slices, err = self.node.store:reclaim(self.node, RECLAIM)
    if not slices then return nil, err end
    for _, slice in ipairs(slices) do
      log.info("runner", "jid=%s slice=%d goes on after a restart", slice.jid, slice.k)
      self:start(slice)
    end
  until #slices == 0
  return true
end

-- A call that may give slices to this node had no answer, so some may be ours without our knowing.
function runner:doubt() self.doubtful = true end

-- Starts what the store says is ours and nobody runs here.
local function settle_doubt(self)
  self.doubtful = false
  local slices = self.node.store:owned(self.node, OWNED)
  if not slices then return self:doubt() end
  for _, slice in ipairs(slices) do
    slice.doubtful = true -- some of it may have been started under this epoch
    if not self.draining then self:start(slice) end
  end
end

-- Takes and runs until the node drains.
function runner:loop()
  while not self.draining do
    self.kicked = false
    if not take_all(self) then self:doubt() elseif self.doubtful then settle_doubt(self) end
    if not self.kicked then self.event:wait(self.count > 0 and BUSY_POLL or POLL) end
  end
end

-- Ends a slice that has not ended in time; it stays this node's in the store.
local function give_up(slice)
  log.warn("runner", "jid=%s slice=%d has not ended in time: whoever takes it over looks what "
    .. "became of its hosts", slice.jid, slice.k)
  slice.given_up = true
  slice.fiber:cancel "the node ends"
end

-- Lets running hosts end within `limit` seconds, starts no more, and hands back what has not
-- started. After the limit what runs is killed, and its records say so; behind a fence it runs on.
function runner:drain(limit)
  self.draining = true
  self.event:notify()
  for _, slice in pairs(self.slices) do
    if slice.run then slice.run:drain() end
    if slice.task then slice.task:abandon() end
  end
  local deadline = timer.now() + limit
  while self.count > 0 and timer.now() < deadline do self.event:wait(deadline - timer.now()) end
  if self.count == 0 then return end
  for _, slice in pairs(self.slices) do
    if slice.run and slice.lasts then
      slice.run:abandon()
    elseif slice.run then
      slice.run:cancel "the node was stopped while it ran"
    end
  end
  deadline = timer.now() + KILLING
  while self.count > 0 and timer.now() < deadline do self.event:wait(deadline - timer.now()) end
  for _, slice in pairs(self.slices) do give_up(slice) end
end

-- The hosts of a job that run here now, oldest first: as run:running of exed.fanout.
function runner:running(jid)
  local list = {}
  for _, slice in pairs(self.slices) do
    if slice.jid == jid and slice.run then
      for _, one in ipairs(slice.run:running(1000)) do list[#list + 1] = one end
    elseif slice.jid == jid and slice.task then
      for _, one in ipairs(slice.task:hosts()) do list[#list + 1] = one end
    end
  end
  table.sort(list, function(a, b) return a.seconds > b.seconds end)
  return list
end

-- Leaves everything to others: nothing more is written of it here.
function runner:abandon()
  for _, slice in pairs(self.slices) do
    if slice.run then slice.run:abandon() end
    if slice.task then slice.task:abandon() end
  end
end

-- Jobs that run here.
function runner:jobs()
  local list, seen = {}, {}
  for _, slice in pairs(self.slices) do
    if not seen[slice.jid] then list[#list + 1] = slice.jid end
    seen[slice.jid] = true
  end
  return list
end

-- Pauses a slice, or lets it go on.
local function set_paused(slice, paused)
  slice.paused = paused
  if slice.run then slice.run:pause(paused) end
  if slice.task then slice.task:told(paused) end
end

-- Somebody stopped, paused or resumed the job, or answered a question of its task: does what the
-- store says. Of what is stopped, records tell what became of each host.
function runner:look_at(jid)
  local job = self.node.store:get(jid)
  if not job then return end
  for _, slice in pairs(self.slices) do
    if slice.jid == jid and slice.task and slice.task.job.pins ~= job.pins then
      slice.superseded = true
      slice.task:abandon()
    elseif slice.jid == jid then
      set_paused(slice, job.paused == "1")
    end
    if slice.jid == jid and job.stop then
      slice.stop = slice.stop or job.stop
      if slice.run then slice.run:cancel(job.stop) end
      if slice.task then slice.task:stop("cancelled", job.stop) end
    end
  end
end

return runner
