-- SPDX-License-Identifier: MIT
-- Lets a paused job of a task go on with the source that is in force now. The new source is run
-- first, in a process of its own, against what the journal has: nothing is done to the world, and
-- one that would ask something else is refused.

local answer = require "exed.answer"
local driver = require "exed.task.driver"
local fiber = require "exed.fiber"
local journal = require "exed.tasks.journal"
local json = require "exed.json"
local config = require "exed.config"
local messages = require "exed.tasks.messages"
local outputs = require "exed.tasks.outputs"
local pins = require "exed.tasks.pins"
local process = require "exed.tasks.process"
local registry = require "exed.tasks.registry"
local secrets = require "exed.tasks.secrets"
local timer = require "exed.timer"

local refit = {}

local LIMIT <const> = 20 -- seconds for one replay
local LOOK <const> = 0.05 -- seconds between two looks whether it is over
local PROBE <const> = 0.4 -- seconds for a stuck process to say where it is
local ATTEMPTS <const> = 3 -- while the journal still grows
local DIFFERS <const> = "the current source of task %s does not fit: %s"
local AT_ONCE <const> = 4 -- replays; each has a process

local running = 0

-- ---- whether it fits ----------------------------------------------------------------------------

local function take(self, text)
  local message, err = process.read(text)
  local checked, wrong
  if message then checked, wrong = messages.check(message, #self.start.hosts) end
  if not checked then return wrong or err.message end
  if checked.output then
    local o = checked.output
    local found = outputs.text(self.node, self.start.jid, o.n, o.index, o.stream)
    self.process:send { output = found or "" }
  elseif checked.stuck or checked.memory or checked.error then
    self.where = checked.stuck or checked.memory or checked.error:match "^[^\n]*"
  else
    self.driver:push(checked)
  end
end

-- Hands on what the process says until it ends.
local function read_messages(self)
  local why
  repeat
    local texts = self.process:texts()
    self.heard = timer.now()
    for _, text in ipairs(texts or {}) do why = why or take(self, text) end
  until not texts or why
  self.process:kill()
  why = self.why or why or self.process:why_ended() or "ended before its task"
  self.driver:push { died = { code = "limit", message = "its process " .. why
    .. (self.where and " (at " .. self.where .. ")" or "") } }
end

local function send(self, message)
  local text = message.text
  if text and message.raise then
    local raise = message.raise
    message = json.decode(text)
    message.raise, text = raise, nil
  end
  self.process:send(message, text)
end

local function new_driver(self, entries)
  return driver.new {
    entries = entries, event = fiber.event(), now = timer.wall,
    -- What it asks beyond the journal is not written, so it is not done either.
    write = function() return nil, { code = "new" } end,
    execute = function() end, cancel = function() end, print = function() end,
    may_park = function() return false end, send = function(message) send(self, message) end,
    host_name = function(index)
      local host = self.start.hosts[index + 1]
      return host and host.name or "node"
    end,
  }
end

local function any() return true end

-- Until it has ended, asks something new, or waits for an answer that the journal has not.
local function wait(self)
  local deadline = timer.now() + LIMIT
  while not self.over and not self.driver:waits_only(any) do
    timer.sleep(LOOK)
    local now, limit = timer.now(), config.tasks.answer_limit
    if not self.why and (now > deadline or now - self.heard > limit) then
      self.why = now > deadline and ("took more than %d s"):format(LIMIT)
        or ("took more than %s s between two answers"):format(limit)
      self.process:probe()
      timer.sleep(PROBE)
      self.process:kill()
    end
  end
end

-- start, modules and sources of the new run; entries: the journal. Returns true, or nil and why it
-- does not fit.
local function fits(node, start, modules, sources, entries)
  local child, err = process.start({ memory = config.tasks.memory, cpu = LIMIT }, modules, {
    start = start, sources = sources,
  })
  if not child then return nil, err.message end
  local self = { node = node, start = start, process = child, heard = timer.now() }
  local _ <close> = setmetatable({}, { __close = function() child:kill() end })
  self.driver = new_driver(self, entries)
  local result, ok
  ok, err = fiber.spawn("refit", read_messages, self)
  if ok then
    ok, err = fiber.spawn("refit driver", function()
      result = self.driver:run()
      self.over = true
    end)
  end
  if not ok then return nil, err.message end
  wait(self)
  if not result then
    self.driver:push { lost = { code = "closed" } }
    return true
  end
  if result.conflict or result.disorder or result.died then return nil, result.error.message end
  return true
end

-- ---- the job ------------------------------------------------------------------------------------

local function refuse(code, format, ...)
  return nil, { code = code, message = format:format(...) }
end

local function try(node, job, request)
  local ok
  local task, err = node.tasks:newest(request.task)
  if not task then return nil, err end
  local found
  found, err = pins.load(node, job.fields.pins)
  if not found then return nil, err end
  local entries
  entries, err = journal.read(node, job.jid)
  if not entries then return nil, err end
  local opened, args
  opened, err = secrets.open(node, job.jid, job.fields.secrets)
  if not opened then return nil, err end
  ok, err = secrets.agree(task.args, request.args or {}, opened, job.jid)
  if not ok then return nil, err end
  args, err = registry.check_kept(task.args, request.args or {})
  if not args then
    return refuse("stopped", DIFFERS, task.name, err.message)
  end
  ok, err = fits(node, {
    name = request.task, args = args, hosts = json.decode(found.hosts), jid = job.jid,
    who = job.fields.who, at = tonumber(job.fields.startat) or 0, seed = pins.seed(job.jid),
  }, found.modules, task.sources, entries)
  if not ok then
    return refuse("stopped", DIFFERS, task.name, err)
  end
  request.args = args
  local pinned
  pinned, err = pins.change(node, job.fields.pins, task)
  if not pinned then return nil, err end
  return node.store:call("repin", job.jid, #entries, pinned, json.encode(request))
end

-- Lets it go on. Returns { jid, state }, or nil, err: code "stopped" when it is not paused, or when
-- the source does not fit.
function refit.resume(node, jid)
  local job, err = answer.load(node, jid)
  if not job then return nil, err end
  if job.fields.operation ~= "task" then
    return refuse("bad_request", "source is for jobs of tasks, this one is of operation %s",
      job.fields.operation)
  end
  if job.state ~= 1 then return refuse("ended", "") end
  if job.fields.paused ~= "1" then
    return refuse("stopped", "the job is not paused: pause it first, jid %s", jid)
  end
  if running >= AT_ONCE then
    return nil, { code = 503, message = ("%d replays are running, try again"):format(AT_ONCE) }
  end
  running = running + 1
  local _ <close> = setmetatable({}, { __close = function() running = running - 1 end })
  local done
  for _ = 1, ATTEMPTS do
    done, err = try(node, job, json.decode(job.fields.request or "") or {})
    if done then return { jid = jid, state = 1 } end
    if err.code ~= "moved" then return nil, err end
  end
  return refuse("stopped", "the job is paused, and what it had begun has not ended yet: try again "
    .. "when nothing of it runs, jid %s", jid)
end

return refit
