-- SPDX-License-Identifier: MIT
-- The world of a rehearsal: hosts that do what they are told, with what was started on them, and a
-- clock that jumps to the next thing that happens.

local glob = require "exed.glob"

local world = {}
world.__index = world

local SECONDS <const> = 1 -- that an operation takes when no rule says otherwise

-- fleet: rules, pages, approval, failing; start: of the task.
function world.new(fleet, start)
  return setmetatable({
    fleet = fleet, start = start, now = 0, timers = {}, order = 0, ops = {}, until_times = {},
    steps = {}, said = {}, waiters = {}, outputs = {}, tallies = {},
    history = {}, -- steps, and what was said ({ at, said }), in their order
    outcomes = {}, -- host -> { status, text }
  }, world)
end

-- ---- time ---------------------------------------------------------------------------------------

local function before(a, b)
  if a.at ~= b.at then return a.at < b.at end
  return a.order < b.order
end

-- A binary heap of what happens later.
local function later(self, at, fn)
  local heap, i = self.timers, #self.timers + 1
  self.order = self.order + 1
  local item = { at = at, order = self.order, fn = fn }
  heap[i] = item
  while i > 1 and before(heap[i], heap[i // 2]) do
    heap[i], heap[i // 2] = heap[i // 2], heap[i]
    i = i // 2
  end
  return item
end

local function pop(heap)
  local top, last = heap[1], table.remove(heap)
  if #heap == 0 then return top end
  heap[1] = last
  local i = 1
  while true do
    local least = i
    for child = 2 * i, 2 * i + 1 do
      if heap[child] and before(heap[child], heap[least]) then least = child end
    end
    if least == i then return top end
    heap[i], heap[least] = heap[least], heap[i]
    i = least
  end
end

-- Lets the next thing happen. Returns false when there is none.
function world:step()
  local item = self.timers[1] and pop(self.timers)
  if not item then return false end
  self.now = math.max(self.now, item.at)
  item.fn()
  return true
end

-- Lets all happen that happens next, at one time.
function world:tick()
  if not self:step() then return false end
  while self.timers[1] and self.timers[1].at <= self.now do self:step() end
  return true
end

-- The node died: nobody waits for answers any more.
function world:forget_waiters() self.waiters = {} end

local function add_step(self, step)
  self.steps[#self.steps + 1] = step
  self.history[#self.history + 1] = step
end

-- ---- hosts --------------------------------------------------------------------------------------

local function what_of(args)
  local f = args.fields or {}
  return f.command or f.argv and table.concat(f.argv, " ")
    or f.name and (f.state and f.name .. " " .. f.state or f.name) or f.role or f.via or f.dest
    or f.src or ""
end

local function fits(rule, args, name, what)
  if rule.left == 0 then return false end
  if rule.op and rule.op ~= args.op then return false end
  if rule.host and not glob.matches(glob.compile(rule.host), name) then return false end
  return not rule.what or what:find(rule.what, 1, true) ~= nil
end

local OURS <const> = {
  op = true, host = true, what = true, times = true, left = true, reply = true, seconds = true,
}

local DEFAULTS <const> = {
  facter = { facts = { kernel = "Linux", hostname = "test" } }, wait_up = { seconds = 1 },
  wait_down = { seconds = 1 },
}

-- What a host answers to an operation, and after how many seconds.
local function reply(self, args, host, what)
  local step = args.step or args.op
  if self.fleet.failing and self.fleet.failing[step] then
    return { status = 3, error = "made to fail by the test" }, SECONDS
  end
  for _, rule in ipairs(self.fleet.rules) do
    if fits(rule, args, host.name, what) then
      if rule.left then rule.left = rule.left - 1 end
      local record = {}
      if rule.reply then
        record = rule.reply(host, args.fields) or {}
      else
        for key, value in pairs(rule) do
          if not OURS[key] then record[key] = value end
        end
      end
      record.seconds = record.seconds or rule.seconds
      return record, rule.seconds or SECONDS
    end
  end
  return {}, SECONDS
end

local NUMBERS <const> = { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 }

local function to_record(record, args, index)
  local full = { i = index }
  for key, value in pairs(DEFAULTS[args.op] or {}) do full[key] = value end
  for key, value in pairs(record) do full[key] = value end
  full.status = NUMBERS[record.status] or record.status or (args.changes and 5 or 1)
  if full.status == 3 or full.status == 4 then full.error = full.error or "failed" end
  if args.op == "execute" and full.rtc == nil and full.status ~= 4 then
    full.rtc = full.status == 3 and 1 or 0
  end
  return full
end

-- Starts an operation on one host; one that was started before is only asked how it ended.
local function start_op(self, effect, index, settle)
  local key = ("%d.%d"):format(effect.n, index)
  local known = self.ops[key]
  if known and settle and not effect.args.repeatable then return known end
  local host = index < 0 and { name = "node" } or self.start.hosts[index + 1]
  local what = what_of(effect.args)
  add_step(self, {
    key = effect.path, op = effect.args.op, host = host.name, what = what, at = self.now,
    step = effect.args.step, repeatable = effect.args.repeatable,
  })
  local record, seconds = reply(self, effect.args, host, what)
  local op = { record = to_record(record, effect.args, index), at = self.now + seconds }
  self.ops[key] = op
  return op
end

local function execute_op(self, effect, settle, done)
  local records, last, waiter = {}, self.now, { done = done }
  for i, index in ipairs(effect.args.hosts) do
    local op = start_op(self, effect, index, settle)
    records[i], last = op.record, math.max(last, op.at)
  end
  self.waiters[effect.n] = waiter
  later(self, last, function()
    if self.waiters[effect.n] ~= waiter then return end
    self.waiters[effect.n] = nil
    done { records = records }
  end)
end

-- ---- the other effects --------------------------------------------------------------------------

local function answer_at(self, effect, at, done, answer)
  local waiter = { done = done }
  self.waiters[effect.n] = waiter
  later(self, at, function()
    if self.waiters[effect.n] ~= waiter then return end
    self.waiters[effect.n] = nil
    done(answer)
  end)
end

local kinds = {}
kinds.op = execute_op

-- A sleep goes on with what was left of it.
function kinds.sleep(self, effect, _, done)
  local at = self.until_times[effect.n] or self.now + effect.args.seconds
  self.until_times[effect.n] = at
  answer_at(self, effect, at, done, {})
end

function kinds.http(self, effect, settle, done)
  local args = effect.args
  local known = self.ops[effect.n]
  if known and settle and not args.repeatable then
    return answer_at(self, effect, self.now, done, {
      failed = { code = "unknown", message = "the node died while it was asked" },
    })
  end
  self.ops[effect.n] = true
  add_step(self, {
    key = effect.path, op = "http", host = "", what = args.method .. " " .. args.url,
    at = self.now, repeatable = args.repeatable,
  })
  local answer = { status = 200, headers = {}, body = "" }
  for _, page in ipairs(self.fleet.pages) do
    if args.url:find(page.pattern) then
      answer = page.answer
      if type(answer) == "function" then answer = answer(args.url, args) end
      break
    end
  end
  local failed = answer == nil and { code = "failed", message = "no answer" } or nil
  answer_at(self, effect, self.now + 1, done, { response = answer, failed = failed })
end

-- Additions have op ids: one that comes again after a kill is there already.
function kinds.tally(self, effect, _, done)
  local args = effect.args
  local key = self.start.hosts[args.host + 1].name .. " " .. args.name
  local times = self.tallies[key]
  if not times then
    times = {}
    for i = 1, self.fleet.tallies and self.fleet.tallies[key] or 0 do times[-i] = 0 end
    self.tallies[key] = times
  end
  if args.change == "add" then times[effect.n] = times[effect.n] or self.now end
  if args.change == "clear" then self.tallies[key] = {} end
  local count = 0
  for _, at in pairs(self.tallies[key]) do
    if at >= self.now - args.within then count = count + 1 end
  end
  answer_at(self, effect, self.now, done, { count = count })
end

function kinds.approval(self, effect, _, done)
  local answer = {}
  for key, value in pairs(self.fleet.approval) do answer[key] = value end
  answer_at(self, effect, self.now + (answer.timeout and effect.args.timeout or 1), done, answer)
end

function world:execute(effect, settle, done)
  local kind = kinds[effect.kind]
  if not kind then
    done { error = { code = "failed", message = "there is no effect " .. effect.kind } }
    return
  end
  kind(self, effect, settle, done)
end

-- What runs is stopped: its answer says so at once.
function world:cancel(effect)
  local waiter = self.waiters[effect.n]
  if not waiter then return end
  self.waiters[effect.n] = nil
  local records = {}
  for i, index in ipairs(effect.args.hosts or {}) do
    records[i] = { i = index, status = 3, error = "cancelled", cancelled = true }
  end
  waiter.done { records = records }
end

-- What a journaled entry says to followers.
function world:note(entry)
  local ask = entry.ask
  if ask and ask.kind == "say" then
    local host = ask.args.host and self.start.hosts[ask.args.host + 1]
    self.said[#self.said + 1] = (host and host.name .. ": " or "") .. ask.args.text
    self.history[#self.history + 1] = { at = self.now, said = self.said[#self.said] }
  elseif ask and ask.kind == "outcome" then
    for _, index in ipairs(ask.args.hosts) do
      self.outcomes[self.start.hosts[index + 1].name] = {
        status = ask.args.status, text = ask.args.text,
      }
    end
  end
end

function world:output() return "" end

return world
