-- SPDX-License-Identifier: MIT
-- Runs one task's job on this node: a process for its Lua, the driver with the journal, the
-- effects. A job that has a journal is replayed first. A task that goes over a limit is killed, and
-- started once more for a cleanup pass, in which only its deferred functions go on.

local config = require "exed.config"
local driver = require "exed.task.driver"
local effects = require "exed.tasks.effects"
local fiber = require "exed.fiber"
local json = require "exed.json"
local journal = require "exed.tasks.journal"
local life = require "exed.tasks.life"
local log = require "exed.log"
local pins = require "exed.tasks.pins"
local secrets = require "exed.tasks.secrets"
local timer = require "exed.timer"
local waits = require "exed.tasks.waits"

local run = {}
run.__index = run

local LOST <const> = { stale = true, gone = true, ended = true } -- somebody else has the task now
local SETTLING <const> = 0.05 -- seconds between two looks whether all effects have ended
local REST_LOOK <const> = 5 -- seconds between two looks for an answer, should its wake-up be lost
local DEATHS <const> = 5 -- nodes in a row, with nothing new between; then it is not run again

-- Ends what still runs, and waits until the hosts have said how it ended.
local function settle_rest(self)
  for effect in pairs(self.effects.running) do self.effects:cancel(effect) end
  while not self.effects:is_idle() and not self.abandoned do timer.sleep(SETTLING) end
end

local function closed() return nil, { code = "closed", message = "the node ends" } end

-- Waits without a process until one of the sleeps is nearly over, a question has its answer, or the
-- task is stopped. Returns true, or nil, err.
local function rest(self)
  local at, questions = self.effects:park()
  log.debug("task", "jid=%s rests until %.0f", self.slice.jid, at)
  self.resting = fiber.event()
  while timer.wall() < at and not self.stop_reason and not self.abandoned do
    if self.effects:is_answered(questions) then break end
    self.resting:wait(math.min(REST_LOOK, math.max(0.01, at - timer.wall())))
    self:check_time()
  end
  self.resting = nil
  if self.abandoned then return closed() end
  return true
end

-- ---- the job ------------------------------------------------------------------------------------

-- What waits is to look again.
local function wake(self)
  if self.resting then self.resting:notify() end
end

-- Over its time limit the task is cancelled; over that of its cleanup it is killed.
function run:check_time()
  local now = timer.now()
  if not self.stop_reason and self.deadline and now > self.deadline then
    self:stop("timeout", ("it took longer than its time_limit, %s s"):format(self.time_limit))
  elseif self.cleanup_until and now > self.cleanup_until and self.life then
    self.life.why = ("took longer than %s s to put back what it had taken"):format(
      self.cleanup_limit)
    self.life.process:kill()
  end
end

-- Cancels the task; its deferred functions run.
function run:stop(code, reason)
  if self.stop_reason then return end
  self.stop_code, self.stop_reason = code, reason
  self.cleanup_until = timer.now() + self.cleanup_limit
  self.effects.cancelled = reason
  if self.life then self.life.driver:stop(code, reason) end
  wake(self)
end

-- Somebody approved, paused or resumed the job.
function run:told(paused)
  self.effects:told(paused)
  wake(self)
end

-- The hosts that run now: { { index, phase, seconds }, ... }.
function run:hosts() return self.effects:hosts() end

-- Leaves the task to its next owner.
function run:abandon()
  self.abandoned = true
  self.effects:abandon()
  local err = { code = "closed", message = "the node ends" }
  if self.life then self.life.driver:push { lost = err } end
  wake(self)
end

-- Why the job failed, for people.
local function reason_of(self, result)
  if not result.ok then
    if not result.error then
      return ("%d of %d hosts failed"):format(result.failed or 0, result.hosts or #self.names)
    end
    local more = (result.died or self.cleaned) and result.between or ""
    return result.error.message .. more
  end
  local unknown = self.job.total - #self.names
  if unknown > 0 then
    return ("%d of %d targets are not in the inventory"):format(unknown, self.job.total)
  end
end

local MAX_VALUE <const> = 64 << 10 -- bytes of JSON

-- Hosts of which the task has not said what became of them, since it could not: those that it had
-- begun with failed.
local function account(self, result)
  local open, told = {}, result.told or {}
  local never = {}
  for _, index in ipairs(result.open or {}) do open[index] = true end
  for index = 0, #self.names - 1 do
    if not open[index] and not told[index] then never[#never + 1] = index end
  end
  local message = result.error.message
  local ok, err = self.journal:tell(result.open, "FAILED",
    "the task ended between start and end of this host: " .. message, self.name)
  if ok then ok, err = self.journal:tell(never, "SKIPPED", message, self.name) end
  return ok, err
end

local function finish(self, result)
  if result.open then
    local ok, err = account(self, result)
    if not ok then return nil, err end
  end
  local reason, value = reason_of(self, result), result.value
  if value ~= nil and #json.encode(value) > MAX_VALUE then value = nil end
  return self.node.store:finish(self.slice, reason and 2 or 0, reason or "", value)
end

-- The cleanup pass after a limit: what the task worked on raises the limit's error. Returns the
-- result of the pass, or the first one when there is none.
local function clean_up(self, result)
  settle_rest(self)
  if self.abandoned then return closed() end
  if self.cleaned or not result.fed then return result end
  self.cleaned, self.cleanup_until = true, timer.now() + self.cleanup_limit
  local err = result.error
  local entry = { limit = { code = err.code, message = err.message, at = result.at } }
  local ok, wrong = self.journal:write({ entry }, self.name)
  if not ok then return nil, wrong end
  local entries
  entries, wrong = journal.read(self.node, self.slice.jid)
  if not entries then return nil, wrong end
  local second
  second, wrong = life.live(self, entries)
  if not second then return nil, wrong end
  if second.died then
    settle_rest(self)
    second.error.message = ("%s; then, putting back what it had taken, %s"):format(err.message,
      second.error.message)
  end
  return second
end

-- A node that dies of a task again and again must not die of its deferred functions for ever.
local function give_up(self, entries)
  local names = driver.new { entries = entries, host_name = function(index)
    return self.names[index + 1] or "node"
  end }
  local message = ("poisoned: %d nodes died in a row while they ran it"):format(self.slice.deaths)
  local open, told = names:open_hosts()
  return {
    ok = false, died = true, error = { code = "limit", message = message }, open = open,
    told = told, between = names:between(),
  }
end

local function run_to_end(self, entries)
  local result, err
  repeat
    result, err = life.live(self, entries)
    if not result or not result.parked then break end
    local ok
    ok, err = rest(self)
    if not ok then return nil, err end
    entries, err = journal.read(self.node, self.slice.jid)
  until not entries
  return result, err
end

local function run_job(self)
  if self.abandoned then return closed() end
  local entries, err = journal.read(self.node, self.slice.jid)
  if not entries then return nil, err end
  for _, entry in ipairs(entries) do self.cleaned = self.cleaned or entry.limit ~= nil end
  waits.remember(self.effects.seen, entries)
  local result
  if self.slice.deaths > DEATHS then
    result = give_up(self, entries)
  else
    result, err = run_to_end(self, entries)
    if result and result.died then result, err = clean_up(self, result) end
  end
  if not result then return nil, err end
  settle_rest(self)
  if self.abandoned then return closed() end
  return finish(self, result)
end

-- The secrets that a job may use; its arguments are opened once, when one of them is needed.
local function secrets_of(node, slice, job)
  local opened
  return secrets.new(config.tasks.secrets, function()
    local err
    if not opened then opened, err = secrets.open(node, slice.jid, job.secrets) end
    return opened, err
  end)
end

-- Runs the task of a slice that this node owns; waits until it has ended. slice.task is it, while
-- it runs. Returns true when the job has ended, or nil, err (code "closed": it is to be handed
-- back; "protocol": to a node that speaks its protocol).
function run.slice(node, slice, job)
  -- Calls are numbered for each epoch, and some may have been made under this one.
  if slice.doubtful then return closed() end
  local request = job.request
  local found, err = pins.load(node, job.pins)
  if not found then return nil, err end
  if found.protocol ~= pins.PROTOCOL then
    return nil, {
      code = "protocol", message = ("its effect protocol is %s, this node speaks %d"):format(
        tostring(found.protocol), pins.PROTOCOL),
    }
  end
  local names
  names, err = node.store:targets(slice.jid, slice.from, slice.to)
  if not names then return nil, err end
  local self = setmetatable({
    node = node, slice = slice, job = job, pins = found, names = names, name = request.task,
    args = request.args, time_limit = request.time_limit or config.tasks.time_limit,
    cleanup_limit = request.cleanup_limit or config.tasks.cleanup_limit,
    effects = effects.new(node, slice, names, request.executor, secrets_of(node, slice, job)),
    journal = journal.new(node, slice),
  }, run)
  self.deadline = timer.now() + self.time_limit - (timer.wall() - (tonumber(job.startat) or 0))
  slice.task, slice.begun = self, true
  if slice.superseded then self:abandon() end
  if slice.stop then self:stop("cancelled", slice.stop) end
  local ran, ok
  ran, ok, err = xpcall(run_job, debug.traceback, self)
  slice.task = nil
  self.effects:close()
  if ran then
    -- What still runs is the next owner's.
    if not ok then self.effects:abandon() end
    if not ok and LOST[err.code] then err.code = "refused" end
    return ok, err
  end
  log.error("task", "jid=%s task=%s %s", slice.jid, self.name, ok)
  settle_rest(self)
  return nil, { code = "failed", message = "inside exed: " .. ok:match "^[^\n]*" }
end

return run
