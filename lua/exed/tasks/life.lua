-- SPDX-License-Identifier: MIT
-- One life of a task's process on this node: starts it, hands on what it says when that is what a
-- task may say, watches that it answers in time, and drives its effects.

local config = require "exed.config"
local driver = require "exed.task.driver"
local effects = require "exed.tasks.effects"
local fiber = require "exed.fiber"
local json = require "exed.json"
local log = require "exed.log"
local messages = require "exed.tasks.messages"
local pins = require "exed.tasks.pins"
local process = require "exed.tasks.process"
local timer = require "exed.timer"

local life = {}

local LOOK <const> = 0.25 -- seconds between two looks at the limits
local REPORT <const> = 0.4 -- seconds for a stuck process to say where it is
local BEHIND <const> = 0.005 -- seconds between two looks whether the driver has caught up
local REST <const> = 3 -- seconds of waiting for something long before the process is given back
local MAX_EFFECTS <const> = 100000 -- of one job
local MAX_BYTES <const> = 64 << 20 -- of its journal

-- ---- the process --------------------------------------------------------------------------------

local function start_process(self)
  local limits = config.tasks
  local start = {
    name = self.name, args = self.args, hosts = json.raw(self.pins.hosts), jid = self.slice.jid,
    who = self.job.who, at = tonumber(self.job.startat) or 0, seed = pins.seed(self.slice.jid),
  }
  return process.start({ memory = limits.memory, cpu = limits.cpu_limit }, self.pins.modules, {
    start = start, sources = json.raw(self.pins.sources),
  })
end

-- Lines of a task in the log, a second.
local LINES <const> = 100

-- What a task prints goes to the log, a line for each, as long as it is not too much.
local function print_text(self, one, text)
  local now = math.floor(timer.now())
  if one.second ~= now then
    if (one.lines or 0) > LINES then
      log.warn("task", "jid=%s task=%s printed %d lines more in a second", self.slice.jid,
        self.name, one.lines - LINES)
    end
    one.second, one.lines = now, 0
  end
  one.lines = one.lines + 1
  if one.lines > LINES then return end
  log.info("task", "jid=%s task=%s %s", self.slice.jid, self.name, text)
end

-- A message that may go on to the driver, or nil: it was for us.
local function take(self, one, message)
  if message.output then
    local o = message.output
    one.served = true -- the task waits for us, not we for it
    local text = self.effects:output(o.n, o.index, o.stream)
    one.process:send { output = text or "" }
    one.served, one.busy_since = false, timer.now()
  elseif message.stuck or message.memory then
    one.where = message.stuck or message.memory
  elseif message.error then
    one.inside = message.error:match "^[^\n]*"
    log.error("task", "jid=%s task=%s %s", self.slice.jid, self.name, message.error)
  elseif message.idle then
    if message.idle > one.sent then one.why = "has taken messages that nobody sent" end
    one.idle, one.busy_since, one.where = message.idle, timer.now(), nil
    return message
  else
    return message
  end
end

-- Waits until the driver has taken what there is. The process may have to wait for us meanwhile.
local function wait_for_driver(one)
  if not one.driver:is_behind() then return end
  one.served = true
  while one.driver:is_behind() and not one.over do timer.sleep(BEHIND) end
  one.served, one.busy_since = false, timer.now()
end

-- Hands on one message, when it is one that a task may send.
local function read_message(self, one, text)
  local message, err = process.read(text)
  if not message then
    one.why = "sent what is no message: " .. err.message
    return
  end
  local checked, wrong = messages.check(message, #self.names)
  if not checked then
    one.why = "sent what its node does not take: " .. wrong
    return
  end
  checked = take(self, one, checked)
  if not checked then return end
  checked.size = #text
  one.driver:push(checked)
end

-- Hands on what the process says until it ends. What it says is checked first; more of it is read
-- when the driver has taken what there is.
local function read_messages(self, one)
  while not one.why do
    local texts = one.process:texts()
    if not texts then break end
    for _, text in ipairs(texts) do
      if one.why then break end
      read_message(self, one, text)
    end
    wait_for_driver(one)
  end
  one.process:kill()
  local why = one.why or one.process:why_ended() or "ended before its task"
  if one.inside then why = "failed: " .. one.inside end
  if one.where then why = ("%s (at %s)"):format(why, one.where) end
  one.driver:push { died = { code = "limit", message = "the task's process " .. why } }
end

-- Whether it has worked on one answer for too long.
local function is_stuck(one)
  return one.idle < one.sent and not one.served and not one.over
    and timer.now() - one.busy_since > config.tasks.answer_limit
end

-- A task that computes too long between two answers is asked where it is, and killed.
local function end_stuck(one)
  local idle = one.idle
  timer.sleep(LOOK) -- it was perhaps we who did not listen
  if not is_stuck(one) or one.idle ~= idle then return end
  one.process:probe()
  timer.sleep(REPORT)
  if not is_stuck(one) or one.idle ~= idle then return end
  one.why = ("took more than %s s between two answers"):format(config.tasks.answer_limit)
  one.process:kill()
end

-- A task that only sleeps or waits for an answer of people gives its process back after a while.
local function look_at_rest(self, one)
  if not one.driver:waits_only(effects.is_long) then
    one.rests_since = nil
  elseif not one.rests_since then
    one.rests_since = timer.now()
  elseif timer.now() - one.rests_since >= REST and not self.stop_reason then
    one.rests_since = nil
    one.driver:push { park = true }
  end
end

local function watch(self, one)
  while not one.over do
    timer.sleep(LOOK)
    if is_stuck(one) then end_stuck(one) end
    if not one.over then look_at_rest(self, one) end
    self:check_time()
  end
end

-- ---- the driver ---------------------------------------------------------------------------------

local function send_message(self, one, message)
  local raise = message.raise
  if one.idle >= one.sent then one.busy_since = timer.now() end
  one.sent = one.sent + 1
  local text = message.text
  if text and message.raise then
    message = json.decode(text)
    message.raise, text = raise, nil
  end
  local ok, err = one.process:send(message, text)
  if not ok then log.debug("task", "jid=%s %s", self.slice.jid, err.message) end
end

-- To the millisecond: the shortest form of more than that is dear to find.
local function stamp() return timer.wall() * 1000 // 1 / 1000 end

local function make_driver(self, one, entries)
  return driver.new {
    entries = entries, event = fiber.event(), max_effects = MAX_EFFECTS, max_bytes = MAX_BYTES,
    write = function(list) return self.journal:write(list, self.name) end,
    execute = function(effect, settle, done)
      self.effects:execute(effect, settle, done, function(err) one.driver:push { lost = err } end)
    end,
    cancel = function(effect) self.effects:cancel(effect) end,
    send = function(message) send_message(self, one, message) end,
    now = stamp, may_park = effects.is_long,
    print = function(text) print_text(self, one, text) end,
    host_name = function(index) return self.names[index + 1] or "node" end,
  }
end

-- Runs the task of a run (exed.tasks.run: slice, job, name, args, pins, names, effects, journal,
-- and what stops it) in a process, with what the journal has, until it ends or rests. run.life is
-- it meanwhile: process, driver. Returns the driver's result, or nil, err.
function life.live(self, entries)
  local child, err = start_process(self)
  if not child then return nil, err end
  local one = { process = child, sent = 0, idle = -1, busy_since = timer.now() }
  one.driver = make_driver(self, one, entries)
  self.life = one
  local reader, watcher
  local _ <close> = setmetatable({}, { __close = function()
    one.over, self.life = true, nil
    child:kill() -- which ends the reader
    if watcher then watcher:cancel "the task has ended" end
  end })
  reader, err = fiber.spawn("task " .. self.slice.jid, read_messages, self, one)
  if reader then
    watcher, err = fiber.spawn("task watch " .. self.slice.jid, watch, self, one)
  end
  if not watcher then return nil, err end
  if self.stop_reason then one.driver:stop(self.stop_code, self.stop_reason) end
  local result
  result, err = one.driver:run()
  if result and (result.died or result.conflict or result.disorder) then
    result.between = one.driver:between()
    result.open, result.told = one.driver:open_hosts()
  end
  return result, err
end

return life
