-- SPDX-License-Identifier: MIT
-- Runs one task's job on this node: a process for its Lua, the driver with the journal, the
-- effects. A job that has a journal is replayed first. A task that goes over a limit is killed, and
-- started once more for a cleanup pass, in which only its deferred functions go on.

local config = require "exed.config"
local driver = require "exed.task.driver"
local effects = require "exed.tasks.effects"
local fiber = require "exed.fiber"
local journal = require "exed.tasks.journal"
local log = require "exed.log"
local pins = require "exed.tasks.pins"
local process = require "exed.tasks.process"
local timer = require "exed.timer"

local run = {}
run.__index = run

local LOOK <const> = 0.25 -- seconds between two looks at the limits
local REPORT <const> = 0.4 -- seconds for a stuck process to say where it is
local SETTLING <const> = 0.05 -- seconds between two looks whether all effects have ended

-- ---- the process --------------------------------------------------------------------------------

-- A seed that is the same for each run of the job: of the first digits of its jid.
local function seed_of(jid) return tonumber("0x" .. jid:gsub("-", ""):sub(1, 15)) end

local function start_process(self)
  local limits = config.tasks
  local start = {
    name = self.name, args = self.args, hosts = self.pins.hosts, jid = self.slice.jid,
    who = self.job.who, at = tonumber(self.job.startat) or 0, seed = seed_of(self.slice.jid),
  }
  return process.start({ memory = limits.memory, cpu = limits.cpu_limit }, self.pins.modules, {
    start = start, sources = self.pins.sources,
  })
end

-- Hands on what the process says until it ends.
local function read_messages(self, life)
  while true do
    local message, err = life.process:next()
    if not message then break end
    if message.output then
      local o = message.output
      local text = self.effects:output(o.n, o.index, o.stream)
      life.process:send { output = text or "" }
    elseif message.stuck or message.memory then
      life.where = message.stuck or message.memory
    elseif message.error then
      life.inside = message.error
    else
      if message.idle then life.idle, life.idle_at = message.idle, timer.now() end
      life.driver:push(message)
    end
    if err then break end
  end
  local why = life.why or life.process:why_ended() or "ended before its task"
  if life.inside then why = life.inside end
  if life.where then why = ("%s (at %s)"):format(why, life.where) end
  life.driver:push { died = { code = "limit", message = "the task's process " .. why } }
end

-- A task that computes too long between two answers is asked where it is, and killed.
local function watch(self, life)
  while not life.over do
    timer.sleep(LOOK)
    local limit = config.tasks.answer_limit
    if life.over then return end
    local since = math.max(life.sent_at, life.idle_at)
    if life.idle < life.sent and timer.now() - since > limit then
      life.why = ("took more than %s s between two answers"):format(limit)
      life.process:probe()
      timer.sleep(REPORT)
      life.process:kill()
      return
    end
    self:check_time()
  end
end

-- ---- one life of the process --------------------------------------------------------------------

local function make_driver(self, life, entries)
  return driver.new {
    entries = entries, event = fiber.event(), max_effects = 100000, max_bytes = 64 << 20,
    write = function(list) return self.journal:write(list, self.name) end,
    execute = function(effect, settle, done)
      self.effects:execute(effect, settle, done, function(err) life.driver:push { lost = err } end)
    end,
    cancel = function(effect) self.effects:cancel(effect) end,
    send = function(message)
      life.sent, life.sent_at = life.sent + 1, timer.now()
      local ok, err = life.process:send(message)
      if not ok then log.debug("task", "jid=%s %s", self.slice.jid, err.message) end
    end,
    now = timer.wall,
    print = function(text)
      log.info("task", "jid=%s task=%s %s", self.slice.jid, self.name, text)
    end,
    host_name = function(index) return self.names[index + 1] or "node" end,
  }
end

-- Runs the process to its end, with what the journal has. Returns the driver's result, or nil, err.
local function live(self, entries)
  local child, err = start_process(self)
  if not child then return nil, err end
  local life = {
    process = child, sent = 0, sent_at = timer.now(), idle = -1, idle_at = timer.now(),
  }
  life.driver = make_driver(self, life, entries)
  self.life = life
  local _ <close> = setmetatable({}, { __close = function()
    life.over, self.life = true, nil
    child:kill()
  end })
  fiber.spawn("task " .. self.slice.jid, read_messages, self, life)
  fiber.spawn("task watch " .. self.slice.jid, watch, self, life)
  if self.stop_reason then life.driver:stop(self.stop_code, self.stop_reason) end
  return life.driver:run()
end

-- Ends what still runs, and waits until the hosts have said how it ended.
local function settle_rest(self)
  for effect in pairs(self.effects.running) do self.effects:cancel(effect) end
  while not self.effects:is_idle() and not self.abandoned do timer.sleep(SETTLING) end
end

-- ---- the job ------------------------------------------------------------------------------------

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
end

-- Somebody approved, paused or resumed the job.
function run:told() self.effects:told() end

-- Leaves the task to its next owner.
function run:abandon()
  self.abandoned = true
  self.effects:abandon()
  local err = { code = "closed", message = "the node ends" }
  if self.life then self.life.driver:push { lost = err } end
end

-- The text of a job that failed without an error of its own.
local function failed_hosts(result)
  local failed, all = 0, 0
  for _, outcome in ipairs(result.outcomes or {}) do
    all = all + 1
    if outcome.status == "FAILED" or outcome.status == "UNREACHABLE" then failed = failed + 1 end
  end
  return ("%d of %d hosts failed"):format(failed, all)
end

local function finish(self, result)
  local message = ""
  if not result.ok then
    message = result.error and result.error.message or failed_hosts(result)
  end
  return self.node.store:finish(self.slice, result.ok and 0 or 2, message, result.value)
end

-- The cleanup pass after a limit: the last answer that the task had raises the limit's error.
local function clean_up(self, result)
  settle_rest(self)
  if self.abandoned then return nil, { code = "closed", message = "the node ends" } end
  if self.cleaned or not result.fed then return result end
  self.cleaned, self.cleanup_until = true, timer.now() + self.cleanup_limit
  local entry = { limit = { code = result.error.code, message = result.error.message } }
  local ok, err = self.journal:write({ entry }, self.name)
  if not ok then return nil, err end
  local entries
  entries, err = journal.read(self.node, self.slice.jid)
  if not entries then return nil, err end
  return live(self, entries)
end

local function run_job(self)
  local entries, err = journal.read(self.node, self.slice.jid)
  if not entries then return nil, err end
  for _, entry in ipairs(entries) do self.cleaned = self.cleaned or entry.limit ~= nil end
  local result
  result, err = live(self, entries)
  if result and (result.died or result.limit) then result, err = clean_up(self, result) end
  if not result then return nil, err end
  settle_rest(self)
  if self.abandoned then return nil, { code = "closed", message = "the node ends" } end
  return finish(self, result)
end

-- Runs the task of a slice that this node owns; waits until it has ended. slice.task is it, while
-- it runs. Returns true when the job has ended, or nil, err.
function run.slice(node, slice, job)
  local request = job.request
  local found, err = pins.load(node, job.pins)
  if not found then return nil, err end
  local names
  names, err = node.store:targets(slice.jid, slice.from, slice.to)
  if not names then return nil, err end
  local self = setmetatable({
    node = node, slice = slice, job = job, pins = found, names = names, name = request.task,
    args = request.args, time_limit = request.time_limit or config.tasks.time_limit,
    cleanup_limit = request.cleanup_limit or config.tasks.cleanup_limit,
    effects = effects.new(node, slice, names, request.executor),
    journal = journal.new(node, slice),
  }, run)
  self.deadline = timer.now() + self.time_limit - (timer.wall() - (tonumber(job.startat) or 0))
  slice.task, slice.begun = self, true
  if slice.stop then self:stop("cancelled", slice.stop) end
  local ran, ok
  ran, ok, err = xpcall(run_job, debug.traceback, self)
  slice.task = nil
  if ran then return ok, err end
  log.error("task", "jid=%s task=%s %s", slice.jid, self.name, ok)
  settle_rest(self)
  return nil, { code = "failed", message = "inside exed: " .. ok:match "^[^\n]*" }
end

return run
