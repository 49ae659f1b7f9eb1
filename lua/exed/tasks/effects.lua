-- SPDX-License-Identifier: MIT
-- Does the effects of one task on this node: each kind of effect is a function here that waits, and
-- returns the answer. An effect that may have been started by a node that was lost is settled, as
-- PROTOCOL says for operations: by its bits in the store and its fence on the host.

local direct = require "exed.tasks.direct"
local fiber = require "exed.fiber"
local json = require "exed.json"
local log = require "exed.log"
local ops = require "exed.tasks.ops"
local outputs = require "exed.tasks.outputs"
local pins = require "exed.tasks.pins"
local secrets = require "exed.tasks.secrets"
local streams = require "exed.tasks.streams"
local sys = require "exed.sys"
local timer = require "exed.timer"
local wait_effect = require "exed.tasks.wait_effect"
local waits = require "exed.tasks.waits"

local effects = {}
effects.__index = effects

local APPROVAL_POLL <const> = 1 -- seconds; a lost wake-up is covered so
local LONG <const> = 60 -- seconds; for longer sleeps no process is held,
local WORTH <const> = 10 -- unless only so many of them are left
local PARKED <const> = {} -- the stop of effects whose task waits without a process

-- What the job has of the files that it sends: the first of a name counts, whichever node sent it.
local function enclosed(node, jid)
  local function pin(key, sha)
    return node.store:insist("pin", jid, "file:" .. key, sha)
  end
  return {
    dirs = { node.config.runner.modules .. "/tasks", sys.share() .. "/tasks" }, pin = pin,
    keep = function(key, text)
      return pins.keep(node, text, function(sha) return pin(key, sha) end)
    end,
  }
end

-- For a slice of a task's job. names: of its targets, by index + 1; known: exed.tasks.secrets of
-- the job.
function effects.new(node, slice, names, executor, known)
  local self = setmetatable({
    node = node, secrets = known, slice = slice, names = names, executor = executor, running = {},
    cancelled = "cancelled", questions = {}, paused = slice.paused or false,
    seen = {}, -- index -> the boot id that waits saw last
    enclosed = enclosed(node, slice.jid),
  }, effects)
  self.streams = streams.new(self)
  return self
end

local failed = direct.failed

-- ---- the node itself ----------------------------------------------------------------------------

-- job.node:execute: a list of words, the first of them a path that [tasks] local_commands names.
local function run_here(self, effect, settle)
  local args = effect.args
  local refused = direct.refused(args, self.node.config.tasks.local_commands)
  if refused then return refused end
  if settle and not args.repeatable then
    local record = { i = -1, status = 3, unknown = true, error = "node lost while running" }
    return { records = { record } }
  end
  local hidden
  args, hidden = self.secrets:reveal(args)
  if not args then return failed("failed", hidden) end
  return secrets.mask(direct.command(args, ("%s.%d"):format(self.slice.jid, effect.n)), hidden)
end

local kinds = {}

function kinds.op(self, effect, settle)
  if waits.is(effect.args) then
    self:wait_while_paused(effect)
    return wait_effect.run(self, effect, settle)
  end
  if effect.args.hosts[1] ~= -1 then return ops.run(self, effect, settle) end
  self:wait_while_paused(effect)
  return run_here(self, effect, settle)
end

-- ---- waiting, asking ----------------------------------------------------------------------------

-- A sleep goes on with what was left of it, and never lasts longer than it was meant to.
function kinds.sleep(_, effect, settle)
  local left = effect.args.seconds
  if settle and effect.at then
    left = math.min(left, math.max(0, effect.at + left - timer.wall()))
  end
  effect.deadline = timer.wall() + left
  if not effect.stop then effect.event:wait(left) end
  return {}
end

-- What does not go through a fan-out, which knows how to pause, waits here.
function effects:wait_while_paused(effect)
  while self.paused and not effect.cleanup and not effect.stop do
    effect.event:wait(APPROVAL_POLL)
  end
end

function kinds.http(self, effect, settle)
  local args = effect.args
  self:wait_while_paused(effect)
  if settle and not args.repeatable then
    return { failed = { code = "unknown", message = "the node was lost while it asked" } }
  end
  local hidden
  args, hidden = self.secrets:reveal(args)
  if not args then return failed("failed", hidden) end
  return secrets.mask(direct.http(args, ("%s.%d"):format(self.slice.jid, effect.n)), hidden)
end

-- Followers see the oldest question that has no answer.
local function show_question(self)
  local oldest
  for effect in pairs(self.questions) do
    if not oldest or effect.n < oldest.n then oldest = effect end
  end
  local args = oldest and oldest.args
  local text = args and ('{"n":%d,"message":%s,"by":%s,"until":%d}'):format(oldest.n,
    json.encode(args.message), args.by and json.encode(args.by) or "null",
    math.floor(oldest.deadline)) or ""
  return self.node.store:insist("waiting", self.slice.jid, self.slice.k, self.slice.epoch, text)
end

-- The answer to a question when there is one, or its end; nil while it is open.
local function answer_to(self, effect)
  local job = self.node.store:get(self.slice.jid)
  local said = job and job["approval:" .. effect.n]
  if said then return json.decode(said) or {} end
  if timer.wall() >= effect.deadline then return { timeout = true } end
end

function kinds.approval(self, effect)
  effect.deadline = (effect.at or timer.wall()) + effect.args.timeout
  self.questions[effect] = true
  local ok, err = show_question(self)
  local answer
  while ok and not answer and not effect.stop do
    answer = answer_to(self, effect)
    if not answer then
      effect.event:wait(math.max(0.01, math.min(APPROVAL_POLL, effect.deadline - timer.wall())))
    end
  end
  if ok and effect.stop == PARKED then return {} end
  self.questions[effect] = nil
  if ok then ok, err = show_question(self) end
  if not ok then return nil, err end
  return answer or {}
end

-- A number of the store's, which knows each addition by its op id: done again it adds nothing.
function kinds.tally(self, effect)
  local args, slice = effect.args, self.slice
  local found, err = self.node.store:insist("tally", slice.jid, slice.k, slice.epoch,
    ("%d"):format(timer.wall() * 1e6 // 1), self.names[args.host + 1], args.name, args.change,
    ("%d"):format(args.within // 1), effect.n)
  return found and { count = found }, err
end

-- ---- all of them --------------------------------------------------------------------------------

-- What this node does by itself, with nothing on a host that would have to be told.
local function is_here(effect)
  return effect.kind == "http" or effect.kind == "op" and effect.args.hosts[1] == -1
end

-- What became of an effect that was ended here, as its task hears it.
local function cancelled_answer(effect)
  if effect.kind == "http" then
    return { failed = { code = "cancelled", message = effect.stop } }
  end
  return { records = { { i = -1, status = 3, cancelled = true, error = effect.stop } } }
end

local function run(self, effect, settle, done, lost)
  effect.begun = true
  if effect.stop and is_here(effect) then
    self.running[effect] = nil
    return done(cancelled_answer(effect))
  end
  local ok, answer, err = xpcall(kinds[effect.kind], debug.traceback, self, effect, settle)
  self.running[effect] = nil
  if effect.stop == PARKED then return end
  if not ok and effect.killed then
    done(cancelled_answer(effect))
  elseif not ok then
    log.error("task", "jid=%s #%d: %s", self.slice.jid, effect.n, answer)
    done(failed("failed", "inside exed: " .. tostring(answer):match "^[^\n]*"))
  elseif answer then
    done(answer)
  else
    lost(err)
  end
end

-- Starts an effect; done(answer) is called once, unless the node ends or does not own the task any
-- more: then lost(err).
function effects:execute(effect, settle, done, lost)
  if not kinds[effect.kind] then
    return done(failed("failed", "there is no effect " .. tostring(effect.kind)))
  end
  if effect.kind == "op" and not settle and self.streams:take(effect, done, lost) then return end
  effect.event = fiber.event()
  self.running[effect] = true
  local name = ("task %s #%d"):format(self.slice.jid, effect.n)
  local handle, err = fiber.spawn(name, run, self, effect, settle, done, lost)
  effect.handle = handle
  if handle then return end
  self.running[effect] = nil
  done(failed("failed", err.message))
end

-- Ends one that runs: what runs on hosts is killed, and its answer says so.
function effects:cancel(effect)
  if effect.stop then return end
  effect.stop = self.cancelled
  if effect.stream then self.streams:cancel(effect) end
  if effect.work then
    effect.work.stop = effect.stop
    if effect.work.run then effect.work.run:cancel(effect.stop) end
  end
  if effect.probe then effect.probe:cancel(effect.stop) end
  if effect.event then effect.event:notify() end
  if self.running[effect] and effect.begun and is_here(effect) then
    effect.killed = true
    effect.handle:cancel(effect.stop)
  end
end

-- Somebody answered, paused or resumed. paused: the job is; deferred functions go on.
function effects:told(paused)
  self.paused = paused
  for effect in pairs(self.running) do
    local work = effect.work
    if work and not effect.cleanup then
      work.paused = paused
      if work.run then work.run:pause(paused) end
    end
    if effect.event then effect.event:notify() end
  end
  self.streams:pause(paused)
end

-- Whether a task that waits for this effect needs no process meanwhile.
function effects.is_long(effect)
  if effect.kind == "approval" then return effect.deadline ~= nil end
  return effect.kind == "sleep" and effect.args.seconds > LONG and effect.deadline ~= nil
    and effect.deadline - timer.wall() > WORTH
end

-- Forgets the effects that run, all of which are long; they are settled when the task goes on.
-- Returns when that is, in UTC seconds, and the questions among them.
function effects:park()
  local at, questions = math.huge, {}
  for effect in pairs(self.running) do
    at = math.min(at, effect.deadline)
    if effect.kind == "approval" then questions[#questions + 1] = effect end
    effect.stop = PARKED
    effect.event:notify()
  end
  self.running, self.questions = {}, {}
  return at, questions
end

-- Whether one of these questions has its answer.
function effects:is_answered(questions)
  if #questions == 0 then return false end
  local job = self.node.store:get(self.slice.jid)
  for _, effect in ipairs(questions) do
    if job and job["approval:" .. effect.n] then return true end
  end
  return false
end

-- The hosts that run now: { { index, phase, seconds }, ... }, and the fan-outs' hosts that wait.
function effects:hosts()
  local list = {}
  for effect in pairs(self.running) do
    if effect.work and effect.work.run then
      for _, one in ipairs(effect.work.run:running(1000)) do list[#list + 1] = one end
    end
  end
  self.streams:hosts(list)
  return list
end

-- None will be done any more. What runs goes on.
function effects:close() self.streams:close() end

-- Leaves everything to the next owner: what runs on hosts runs on.
function effects:abandon()
  self.abandoned = true
  for effect in pairs(self.running) do
    if effect.work and effect.work.run then effect.work.run:abandon() end
    effect.stop = effect.stop or "abandoned"
    if effect.probe then effect.probe:cancel(effect.stop) end
    if effect.event then effect.event:notify() end
  end
  self.streams:abandon()
end

-- Whether nothing runs any more.
function effects:is_idle() return next(self.running) == nil end

function effects:output(n, index, stream)
  if index < 0 then return "" end
  return outputs.text(self.node, self.slice.jid, n, index, stream)
end

return effects
