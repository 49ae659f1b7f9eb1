-- SPDX-License-Identifier: MIT
-- The node's side of a task: takes its effects, journals them, has them done, journals the answers
-- and hands them back, in that order. A journal that has entries is replayed first: the task is run
-- again and the journal answers. The same for a task's process and for tests, which differ in what
-- they give:
--
--   write(entries) -> true | nil, err   makes journal entries durable (and does what notes say);
--   waits
--   execute(effect, settle, done)       starts an effect; calls done(answer) once. settle: it may
--                                       have been started before, by the node that was lost
--   cancel(effect)                      ends one that runs; it is answered soon after
--   send(message)                       to the task: { ans = n, ... }, { event = { code, message }
--   }
--   event                               { wait(), notify() } of the fibers in use
--   now() -> UTC seconds
--   print(text)                         what the task prints
--   host_name(index) -> text
--   entries                             the journal, oldest first
--   max_effects, max_bytes              of the journal
--
-- Entries: { ask = { n, path, kind, args, note, at } }, { ans = n, at, ... }, { event = { code,
-- message } }, { limit = { code, message } }: after that only deferred functions went on.

local json = require "exed.json"

local driver = {}
driver.__index = driver

local function describe(effect)
  local args = effect.args
  local fields = args.fields or {}
  local what = fields.name or fields.command or fields.argv and table.concat(fields.argv, " ")
    or args.url or args.text or args.message or args.name or ""
  return (("%s %s"):format(args.op or effect.kind, what):gsub("%s+$", ""):sub(1, 80))
end

-- Reads a journal: asks by number, and answers and events in their order.
local function read_journal(self, entries)
  for _, entry in ipairs(entries) do
    if entry.ask then
      self.asks[entry.ask.n] = entry.ask
      self.known = entry.ask.n
    elseif entry.limit then
      -- From the last answer on the task did not go on; what it asked after it is void, and its
      -- numbers are not used again.
      local last = self.feed[#self.feed]
      last.raise = { code = entry.limit.code, message = entry.limit.message, n = self.known }
      self.jump = self.known
    else
      if entry.ans then self.answered[entry.ans] = true end
      self.feed[#self.feed + 1] = entry
    end
  end
end

function driver.new(options)
  local self = setmetatable({
    o = options, inbox = {}, asks = {}, answered = {}, feed = {}, known = 0, asked = 0,
    running = {}, waiting = {}, idle = -1, bytes = 0, result = nil,
  }, driver)
  read_journal(self, options.entries or {})
  self.replayed = #self.feed
  return self
end

-- Something came: a message of the task, or { answer = {...}, effect }, or { event = ... }.
function driver:push(item)
  self.inbox[#self.inbox + 1] = item
  self.o.event:notify()
end

-- Cancels: the task sees it at one place of the order of its answers, also when it is run again.
function driver:stop(code, message) self:push { event = { code = code, message = message } } end

-- ---- conflicts ----------------------------------------------------------------------------------

-- Names of hosts that an operation was asked for and that have no outcome yet.
local function between(self)
  local open, order = {}, {}
  for n = 1, self.known do
    local ask = self.asks[n]
    for _, index in ipairs(ask and (ask.kind == "op" or ask.kind == "outcome") and ask.args.hosts
      or {}) do
      if open[index] == nil then order[#order + 1] = index end
      open[index] = ask.kind == "op"
    end
  end
  local names = {}
  for _, index in ipairs(order) do
    if open[index] then names[#names + 1] = self.o.host_name(index) end
  end
  return #names > 0 and "; between start and end: " .. table.concat(names, ", ") or ""
end

local function conflict(self, was, is)
  local at = was or is
  self.result = {
    ok = false, conflict = true, error = { code = "version_conflict", message =
      ("version conflict at effect %d (%s): the journal has %s, the code asks %s%s"):format(at.n,
        at.path, was and describe(was) or "nothing more", is and describe(is) or "nothing more",
        between(self)) },
  }
end

local function is_same(was, is)
  return was.kind == is.kind and was.path == is.path and (was.note or false) == (is.note or false)
    and json.encode(was.args) == json.encode(is.args)
end

-- Whether the task has had all that the journal knows, so that what it asks now is to be done.
local function is_live(self)
  return self.done ~= nil or self.replayed == 0 or self.idle >= self.replayed
end

-- ---- the task's messages ------------------------------------------------------------------------

local function over_limits(self)
  local o = self.o
  if self.asked > (o.max_effects or 100000) then
    return ("more than %d effects"):format(o.max_effects or 100000)
  end
  if self.bytes > (o.max_bytes or 64 << 20) then
    return ("more than %d bytes of journal"):format(o.max_bytes or 64 << 20)
  end
end

local function on_effect(self, effect)
  self.asked = self.asked + 1
  if self.jump and self.asked <= self.jump and effect.n == self.jump + 1 then
    self.asked = effect.n
  end
  if effect.n ~= self.asked then
    self.result = { ok = false, error = { code = "failed", message = "effects out of order" } }
    return
  end
  local was = self.asks[effect.n]
  if was then
    if not is_same(was, effect) then return conflict(self, was, effect) end
    if not effect.note and not self.answered[effect.n] then
      effect.at = was.at
      self.waiting[#self.waiting + 1] = { effect = effect, settle = true }
    end
    return
  end
  self.waiting[#self.waiting + 1] = { effect = effect, settle = false }
end

local function on_done(self, result)
  if self.asked < self.known then return conflict(self, self.asks[self.asked + 1], nil) end
  self.done = result
end

local function on_message(self, item)
  if item.effect then
    on_effect(self, item.effect)
  elseif item.idle then
    self.idle = item.idle
  elseif item.print then
    if is_live(self) then self.o.print(item.print) end
  elseif item.done then
    on_done(self, item.done)
  elseif item.died and not self.done then
    self.result = { ok = false, died = true, error = item.died, fed = #self.feed > 0 }
  elseif item.lost then
    self.lost = item.lost
  end
end

-- ---- journal, then do ---------------------------------------------------------------------------

-- Takes what came. Returns the answers and events among it, in their order.
local function take_items(self)
  local items, answers = self.inbox, {}
  self.inbox = {}
  for _, item in ipairs(items) do
    if item.answer then
      local answer = item.answer
      answer.ans, answer.at = item.to.n, self.o.now()
      self.running[item.to.n] = nil
      answers[#answers + 1] = answer
    elseif item.event then
      answers[#answers + 1] = { event = item.event, at = self.o.now() }
    elseif not self.result then
      on_message(self, item)
    end
  end
  return answers
end

-- What is new is journaled before it is done; what is only settled is in the journal already.
local function ready_effects(self, entries)
  if not is_live(self) or self.result then return {} end
  local ready = self.waiting
  self.waiting = {}
  for _, one in ipairs(ready) do
    if not one.settle then
      local e = one.effect
      entries[#entries + 1] = { ask = {
        n = e.n, path = e.path, kind = e.kind, args = e.args, note = e.note, cleanup = e.cleanup,
        at = self.o.now(),
      } }
      self.asks[e.n], self.known = e, e.n
    end
  end
  return ready
end

local function start(self, one)
  local effect = one.effect
  if effect.note then return end
  local function done(answer) self:push { answer = answer, to = effect } end
  local stop = self.stopping and not effect.cleanup
  if stop and not one.settle then
    return done { error = { code = self.stopping.code, message = self.stopping.message } }
  end
  self.running[effect.n] = effect
  self.o.execute(effect, one.settle, done)
  if stop then self.o.cancel(effect) end
end

local function deliver(self, answers)
  for _, answer in ipairs(answers) do
    self.o.send(answer)
    if answer.event then
      self.stopping = answer.event
      for _, effect in pairs(self.running) do
        if not effect.cleanup then self.o.cancel(effect) end
      end
    end
  end
end

-- Runs the task to its end. Returns its result: { ok, value, error, outcomes } as it sent it, or
-- with conflict or died; or nil, err when the journal could not be written.
function driver:run()
  for _, entry in ipairs(self.feed) do
    self.o.send(entry)
    if entry.event then self.stopping = entry.event end
  end
  while true do
    local answers = take_items(self)
    local entries = table.move(answers, 1, #answers, 1, {})
    if self.lost then return nil, self.lost end
    local ready = ready_effects(self, entries)
    if #entries > 0 then
      local ok, err, bytes = self.o.write(entries)
      if not ok then return nil, err end
      self.bytes = self.bytes + (bytes or 0)
    end
    deliver(self, answers)
    for _, one in ipairs(ready) do start(self, one) end
    local limit = over_limits(self)
    if limit and not self.result then
      self.result = {
        ok = false, limit = true, fed = true, error = { code = "limit", message = limit },
      }
    end
    if self.result then return self.result end
    if self.done and #self.waiting == 0 then return self.done end
    if #self.inbox == 0 then self.o.event:wait() end
  end
end

return driver
