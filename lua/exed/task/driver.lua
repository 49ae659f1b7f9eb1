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
--   send(message)                       to the task: { ans = n, ... } or
--                                       { event = { code, message } }
--   event                               { wait(), notify() } of the fibers in use
--   now() -> UTC seconds
--   print(text)                         what the task prints
--   host_name(index) -> text
--   entries                             the journal, oldest first
--   max_effects, max_bytes              of the journal
--   may_park(effect)                    whether the process may end while it waits for this one;
--                                       asked after push { park = true }
--
-- Entries: { ask = { n, path, kind, args, note, at } }, { ans = n, at, ... }, { event = { code,
-- message } }, { limit = { code, message, at } }: the task went over a limit while it worked on the
-- answer or event number `at`; from there on only deferred functions went on.

local driver = {}
driver.__index = driver

-- Answers that the task may be behind with; the others wait here.
local AHEAD <const> = 256
local INBOX <const> = 1000 -- messages of the task that may wait here
-- What a cleanup pass may ask and journal beyond the limits that it may be the consequence of.
local CLEANUP_EFFECTS <const> = 10000
local CLEANUP_BYTES <const> = 8 << 20

local function describe(effect)
  local args = effect.args
  local fields = args.fields or {}
  local what = fields.name or fields.command or fields.argv and table.concat(fields.argv, " ")
    or args.url or args.text or args.message or args.name or ""
  return (("%s %s"):format(args.op or effect.kind, what):gsub("%s+$", ""):sub(1, 80))
end

-- What is kept of an ask that has been compared.
local function brief(ask) return { kind = ask.kind, hosts = ask.args.hosts } end

-- From a limit on the task did not go on; what it had asked by then and was not answered is void,
-- and its numbers are not used again.
local function read_limit(self, limit)
  local at = math.max(1, math.min(limit.at or #self.out, #self.out))
  if not self.out[at] then return end
  self.out[at].raise = { code = limit.code, message = limit.message, n = self.known }
  self.jump = self.known
  for n = 1, self.known do
    local ask = self.asks[n]
    if ask and not ask.note and not self.answered[n] then self.voids[n] = ask end
  end
end

-- Reads a journal: asks by number, and answers and events in their order.
local function read_journal(self, entries)
  for _, entry in ipairs(entries) do
    if entry.ask then
      self.asks[entry.ask.n] = entry.ask
      self.known = entry.ask.n
    elseif entry.limit then
      read_limit(self, entry.limit)
    else
      if entry.ans then
        self.answered[entry.ans] = true
        self.voids[entry.ans] = nil
      end
      if entry.event then self.event, self.stopping = true, entry.event end
      self.out[#self.out + 1] = entry
    end
  end
  self.last = #self.out
end

function driver.new(options)
  local self = setmetatable({
    o = options, inbox = {}, asks = {}, answered = {}, known = 0, asked = 0, voids = {},
    out = {}, last = 0, sent = 0, -- answers and events, by number; those up to `sent` are gone
    running = {}, waiting = {}, held = 0, idle = -1, bytes = 0, result = nil,
  }, driver)
  read_journal(self, options.entries or {})
  self.replayed = self.last
  return self
end

-- Something came: a message of the task, or { answer = {...}, effect }, or { event = ... }.
function driver:push(item)
  self.inbox[#self.inbox + 1] = item
  self.o.event:notify()
end

-- Cancels: the task sees it at one place of the order of its answers, also when it is run again.
function driver:stop(code, message)
  if self.event then return end
  self.event = true
  self:push { event = { code = code, message = message } }
end

-- Whether more waits here than it takes in one turn: whoever pushes what a task says waits.
function driver:is_behind() return #self.inbox > INBOX end

-- Whether the task waits for nothing but what is(effect) is true for, and has had all answers.
function driver:waits_only(is)
  if self.done or self.result or self.idle < self.last or #self.waiting + #self.inbox > 0 then
    return false
  end
  for _, effect in pairs(self.running) do
    if not is(effect) then return false end
  end
  return next(self.running) ~= nil
end

-- ---- conflicts ----------------------------------------------------------------------------------

-- Indexes of the hosts that an operation was asked for and that have no outcome since, and the set
-- of those that have one.
function driver:open_hosts()
  local open, order = {}, {}
  for n = 1, self.known do
    local ask = self.asks[n]
    local hosts = ask and (ask.hosts or ask.args and ask.args.hosts)
    for _, index in ipairs(hosts and (ask.kind == "op" or ask.kind == "outcome") and hosts or {}) do
      if open[index] == nil then order[#order + 1] = index end
      open[index] = ask.kind == "op"
    end
  end
  local list, told = {}, {}
  for _, index in ipairs(order) do
    if open[index] and index >= 0 then list[#list + 1] = index else told[index] = true end
  end
  return list, told
end

-- Says which hosts these are; "" when there is none.
function driver:between()
  local names = self:open_hosts()
  for i, index in ipairs(names) do names[i] = self.o.host_name(index) end
  return #names > 0 and "; between start and end: " .. table.concat(names, ", ") or ""
end

local function conflict(self, was, is)
  local at = was or is
  self.result = {
    ok = false, conflict = true, error = { code = "version_conflict", message =
      ("version conflict at effect %d (%s): the journal has %s, the code asks %s%s"):format(at.n,
        at.path, was and describe(was) or "nothing more", is and describe(is) or "nothing more",
        self:between()) },
  }
end

local function is_equal(one, other)
  if type(one) ~= "table" or type(other) ~= "table" then return one == other end
  for key, value in pairs(one) do
    if not is_equal(value, other[key]) then return false end
  end
  for key in pairs(other) do
    if one[key] == nil then return false end
  end
  return true
end

local function is_same(was, is)
  return was.kind == is.kind and was.path == is.path and (was.note or false) == (is.note or false)
    and is_equal(was.args, is.args)
end

-- Whether the task has had all that the journal knows, so that what it asks now is to be done.
local function is_live(self)
  return self.done ~= nil or self.replayed == 0 or self.idle >= self.replayed
end

-- ---- the task's messages ------------------------------------------------------------------------

local function over_limits(self)
  local effects, bytes = self.o.max_effects or 100000, self.o.max_bytes or 64 << 20
  local more_effects = self.jump and CLEANUP_EFFECTS or 0
  local more_bytes = self.jump and CLEANUP_BYTES or 0
  if self.asked > effects + more_effects then return ("more than %d effects"):format(effects) end
  if self.bytes + self.held > bytes + more_bytes then
    return ("more than %d bytes of journal"):format(bytes)
  end
end

local function on_effect(self, effect, size)
  self.asked = self.asked + 1
  if self.jump and self.asked <= self.jump and effect.n == self.jump + 1 then
    self.asked = effect.n
  end
  if effect.n ~= self.asked then
    self.result = {
      ok = false, disorder = true, error = { code = "failed", message = "effects out of order" },
    }
    return
  end
  local was = self.asks[effect.n]
  if not was then
    self.held = self.held + (size or 0)
    self.waiting[#self.waiting + 1] = { effect = effect, settle = false }
    return
  end
  if not is_same(was, effect) then return conflict(self, was, effect) end
  self.asks[effect.n] = brief(was)
  if not effect.note and not self.answered[effect.n] and not self.voids[effect.n] then
    effect.at = was.at
    self.waiting[#self.waiting + 1] = { effect = effect, settle = true }
  end
end

-- A task that went over a limit does not ask again all that it had asked.
local function on_done(self, result)
  local asked = math.max(self.asked, self.jump or 0)
  if asked < self.known then return conflict(self, self.asks[asked + 1], nil) end
  self.done = result
end

-- What becomes of a task whose process is gone: at is what it worked on, fed whether there was any.
local function over(self, code, message)
  local at = math.min(math.max(self.idle, 0) + 1, self.sent)
  self.result = {
    ok = false, died = true, fed = self.sent > 0, at = at,
    error = { code = code, message = message },
  }
end

local function on_message(self, item)
  if item.effect then
    on_effect(self, item.effect, item.size)
  elseif item.idle then
    self.idle = math.max(self.idle, item.idle)
  elseif item.print then
    if is_live(self) then self.o.print(item.print) end
  elseif item.done then
    on_done(self, item.done)
  elseif item.died and not self.done then
    over(self, item.died.code, item.died.message)
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
    elseif item.lost or item.park then
      self.lost, self.parked = self.lost or item.lost, self.parked or item.park
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
  self.waiting, self.held = {}, 0
  for _, one in ipairs(ready) do
    if not one.settle then
      local e = one.effect
      entries[#entries + 1] = { ask = {
        n = e.n, path = e.path, kind = e.kind, args = e.args, note = e.note, cleanup = e.cleanup,
        at = self.o.now(),
      } }
      self.asks[e.n], self.known = brief(e), e.n
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

-- Hands on what the task can take now, in order.
local function send(self)
  while self.sent < self.last and self.sent - math.max(self.idle, 0) < AHEAD do
    self.sent = self.sent + 1
    local message = self.out[self.sent]
    self.out[self.sent] = nil
    self.o.send(message)
  end
end

local function deliver(self, answers)
  for _, answer in ipairs(answers) do
    self.last = self.last + 1
    self.out[self.last] = answer
    if answer.event then
      self.stopping = answer.event
      for _, effect in pairs(self.running) do
        if not effect.cleanup then self.o.cancel(effect) end
      end
    end
  end
end

-- What a limit made void is ended where it still runs; the task hears of it.
local function end_voids(self)
  for n, ask in pairs(self.voids) do
    local effect = { n = n, path = ask.path, kind = ask.kind, args = ask.args, at = ask.at }
    self.running[n] = effect
    self.o.execute(effect, true, function(answer) self:push { answer = answer, to = effect } end)
    self.o.cancel(effect)
  end
end

local function end_of(self)
  local limit = not self.result and over_limits(self)
  if limit then over(self, "limit", limit) end
  if self.result then return self.result end
  if self.done and #self.waiting == 0 then return self.done end
  local parked = self.parked and self:waits_only(self.o.may_park)
  self.parked = nil
  if parked then return { parked = true } end
end

-- Runs the task to its end. Returns its result: { ok, value, error, ... } as it sent it, or with
-- conflict, died (at, fed) or parked; or nil, err when the journal could not be written.
function driver:run()
  end_voids(self)
  while true do
    local answers = take_items(self)
    if self.lost then return nil, self.lost end
    local entries = table.move(answers, 1, #answers, 1, {})
    local ready = ready_effects(self, entries)
    if #entries > 0 then
      local ok, err, bytes = self.o.write(entries)
      if not ok then return nil, err end
      self.bytes = bytes or self.bytes
    end
    deliver(self, answers)
    send(self)
    for _, one in ipairs(ready) do start(self, one) end
    local result = end_of(self)
    if result then return result end
    if #self.inbox == 0 then self.o.event:wait() end
  end
end

return driver
