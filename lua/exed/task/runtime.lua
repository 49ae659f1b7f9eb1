-- SPDX-License-Identifier: MIT
-- The runtime of one task or script: fibers, effects and their numbers, deferred functions. It is
-- the same in a task's process, in a script and in a test; what differs is the backend, which does
-- the effects:
--
--   backend.ask(effect) -> answer   waits; effect: { n, path, kind, args, cleanup (asked by a
--   deferred
--                                   function) }. answer: at (UTC seconds of its delivery), and what
--                                   the kind gives, or error (code, message)
--   backend.note(effect)            an effect without an answer: say, outcome
--   backend.output(n, index, stream) -> text   output of a record that came without it; not an
--   effect
--   backend.spawn(fn)               runs fn in a new fiber, after the one that runs now waits
--   backend.event() -> event        event:wait() until event:notify(); for fibers among themselves
--   backend.print(text)
--
-- Effects are numbered in the order of asking. Fibers change over at an effect only, so a task that
-- gets the same answers in the same order asks the same effects again.

local fail = require "exed.task.fail"

local runtime = {}
runtime.__index = runtime

-- options: at (UTC seconds at the start), dry_run, jid, who, seed (integer)
function runtime.new(backend, options)
  return setmetatable({
    backend = backend, n = 0, time = options.at or 0, jid = options.jid, who = options.who,
    dry_run = options.dry_run or false, random = options.seed or 0,
    contexts = setmetatable({}, { __mode = "k" }),
    last = {}, -- host -> status of its last operation
    changed = {}, -- host -> how many operations changed it
    outcomes = {}, -- host -> { status, text }
    over = nil, -- what every further effect raises, once the job was cancelled or aborted
  }, runtime)
end

-- ---- contexts -----------------------------------------------------------------------------------

-- What a fiber runs: path and count of its effects, how many windows and calls it made, host (of a
-- body), cleanup (depth of deferred functions), changed, recorded, scope (its deferred
-- functions), task (whose code it is).
function runtime.new_context(path, host, outer)
  return {
    path = path, count = 0, windows = 0, calls = 0, host = host,
    cleanup = outer and outer.cleanup or 0, changed = false, recorded = false,
    task = outer and outer.task,
  }
end

function runtime:context()
  local context = self.contexts[coroutine.running()]
  if not context then
    fail.usage "effects cannot be asked inside a coroutine of your own: use each.window"
  end
  return context
end

-- Runs fn(...) in a new context of the fiber that runs now, with deferred functions of its own.
-- Returns pcall's values.
function runtime:within(path, host, fn, ...)
  local thread = coroutine.running()
  local outer = self.contexts[thread]
  self.contexts[thread] = runtime.new_context(path, host, outer)
  local found = table.pack(self:scoped(fn, ...))
  self.contexts[thread] = outer
  return table.unpack(found, 1, found.n)
end

-- Runs fn in a fiber of its own, with a context.
function runtime:spawn(path, host, fn)
  local context = runtime.new_context(path, host, self:context())
  self.backend.spawn(function()
    local thread = coroutine.running()
    self.contexts[thread] = context
    fn(context)
    self.contexts[thread] = nil
  end)
end

-- ---- deferred functions -------------------------------------------------------------------------

function runtime:defer(fn)
  local scope = self:context().scope
  scope[#scope + 1] = fn
end

-- Runs what was deferred, last first. Returns the texts of those that failed.
function runtime:run_deferred(scope)
  local context, problems = self:context(), {}
  context.cleanup = context.cleanup + 1
  for i = #scope, 1, -1 do
    local fn = scope[i]
    scope[i] = nil
    local ok, err = pcall(fn)
    if not ok then problems[#problems + 1] = tostring(err) end
  end
  context.cleanup = context.cleanup - 1
  return problems
end

local function add_problems(ok, err, problems)
  if #problems == 0 then return ok, err end
  local text = "putting back failed: " .. table.concat(problems, "; ")
  local first = not ok and fail.from(err) or nil
  if not first then return false, fail.new("failed", text) end
  local joined = fail.new(first.code, first.message .. "; " .. text, first)
  return false, joined
end

-- Runs fn(...) with deferred functions of its own, and then these. Returns pcall's values; a
-- deferred function that failed makes it false, with its text added to the reason.
function runtime:scoped(fn, ...)
  local context = self:context()
  local outer, scope = context.scope, {}
  context.scope = scope
  local found = table.pack(pcall(fn, ...))
  local problems = self:run_deferred(scope)
  context.scope = outer
  local ok, err = add_problems(found[1], found[2], problems)
  if not ok then return false, err end
  return table.unpack(found, 1, found.n)
end

-- ---- effects ------------------------------------------------------------------------------------

-- From here on every effect raises err, but for those of deferred functions.
function runtime:end_with(err) self.over = self.over or err end

function runtime:check_over(context)
  if self.over and context.cleanup == 0 then error(self.over, 0) end
end

local function number(self, context, kind, args)
  self.n, context.count = self.n + 1, context.count + 1
  return {
    n = self.n, path = ("%s#%d"):format(context.path, context.count), kind = kind, args = args,
    cleanup = context.cleanup > 0 or nil,
  }
end

-- Asks for an effect and waits for its answer, which it returns with the effect's number. Raises
-- what the job ends with, and the answer's error.
function runtime:ask(kind, args)
  local context = self:context()
  self:check_over(context)
  local effect = number(self, context, kind, args)
  local answer = self.backend.ask(effect)
  if answer.at then self.time = answer.at end
  self:check_over(context)
  if answer.error then error(fail.new(answer.error.code, answer.error.message), 0) end
  return answer, effect.n
end

local MAX_TEXT <const> = 16 << 10 -- bytes of what is said; the rest is left out

-- An effect that nobody waits for. What became of a host is told also when the job is over.
function runtime:note(kind, args)
  local text = args.text
  if text and #text > MAX_TEXT then args.text = text:sub(1, MAX_TEXT) .. "..." end
  local context = self:context()
  if kind ~= "outcome" then self:check_over(context) end
  self.backend.note(number(self, context, kind, args))
end

function runtime:sleep(seconds)
  if seconds > 0 then self:ask("sleep", { seconds = seconds }) end
end

-- ---- outcomes -----------------------------------------------------------------------------------

-- What became of the hosts of a list; followers are told at once.
function runtime:outcome(list, status, text)
  if #list == 0 then return end
  local context, indexes = self:context(), {}
  for i, host in ipairs(list) do
    self.outcomes[host] = { status = status, text = text }
    if host == context.host then context.recorded = true end
    indexes[i] = host.index
  end
  self:note("outcome", { hosts = indexes, status = status, text = text })
end

-- ---- chance -------------------------------------------------------------------------------------

-- splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the same
-- numbers for the same seed, in every process.
local function next_random(self)
  self.random = self.random + 0x9E3779B97F4A7C15
  local z = self.random
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  return z ~ (z >> 31)
end

-- As math.random.
function runtime:chance(m, n)
  local bits = next_random(self)
  if m == nil then return (bits >> 11) * 0x1p-53 end
  if n == nil then m, n = 1, m end
  local low, high = math.tointeger(m), math.tointeger(n)
  if not low or not high then fail.usage "job:random wants whole numbers" end
  if low > high then fail.usage("job:random: the interval %d to %d is empty", low, high) end
  local range = high - low + 1
  if range <= 0 then return low + bits end -- all 64 bits
  local limit = math.maxinteger - math.maxinteger % range
  bits = bits & math.maxinteger
  while bits >= limit do bits = next_random(self) & math.maxinteger end
  return low + bits % range
end

return runtime
