-- SPDX-License-Identifier: MIT
-- The task's side of the effect protocol: runs a task's program in fibers of its own, sends what it
-- asks and takes the answers. In a task's process and in tests.
--
-- To the node (emit):  { effect = { n, path, kind, args, note, cleanup } }   { print = text }
--                      { idle = messages taken so far }   { done = result of program.run }
-- From it (deliver):   { ans = n, at, ..., raise = { code, message, n } }
--                      { event = { code, message } }
-- The task of a cleanup pass gets an answer or event with `raise`: instead of it that error is
-- raised, and from there on only deferred functions go on.

local fail = require "exed.task.fail"
local program = require "exed.task.program"
local threads = require "exed.task.threads"

local session = {}
session.__index = session

-- options: start and sources (see program.run), emit(message), output(n, index, stream) -> text,
-- switch(thread), if given, is told which coroutine runs
function session.new(options)
  local self = setmetatable({
    emit = options.emit, threads = threads.new(options.switch), pending = {},
    taken = 0, ended = false,
  }, session)
  local backend = {
    ask = function(effect)
      self.pending[effect.n] = coroutine.running()
      self.emit { effect = effect }
      return threads.park()
    end,
    note = function(effect)
      effect.note = true
      self.emit { effect = effect }
    end,
    output = options.output,
    spawn = function(fn) self.threads:spawn(fn) end,
    event = function() return self.threads:event() end,
    print = function(text) self.emit { print = text } end,
  }
  self.threads:spawn(function()
    local result = program.run(backend, options.start, options.sources, function(rt)
      self.rt = rt
    end)
    self.ended = true
    self.emit { done = result }
  end)
  return self
end

local function go_on(self)
  self.threads:run()
  if not self.ended then self.emit { idle = self.taken } end
end

-- Runs the task until it waits for its first answer.
function session:start() go_on(self) end

-- Wakes the fiber that waits for this answer. After a limit nobody may: what the task asked while
-- it went over it is not asked again.
local function take_answer(self, message)
  local thread = self.pending[message.ans]
  if thread then
    self.pending[message.ans] = nil
    self.threads:wake(thread, message)
  elseif not self.jumped then
    error(("an answer to effect %d, which was not asked"):format(message.ans), 0)
  end
end

-- Takes one message and runs until all fibers wait.
function session:deliver(message)
  self.taken = self.taken + 1
  local over = message.raise or message.event
  if over then
    if message.raise then self.rt.n, self.jumped = math.max(self.rt.n, message.raise.n), true end
    self.rt:end_with(fail.new(over.code, over.message))
  end
  if message.ans then take_answer(self, message) end
  go_on(self)
end

return session
