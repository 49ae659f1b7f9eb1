-- SPDX-License-Identifier: MIT
-- Fibers of a task's process: coroutines that run one at a time, in the order in which they became
-- ready, until all wait.

local threads = {}
threads.__index = threads

-- switch(thread), if given, is told which coroutine runs.
function threads.new(switch)
  return setmetatable({ ready = {}, first = 1, last = 0, switch = switch }, threads)
end

local function push(self, thread, value)
  self.last = self.last + 1
  self.ready[self.last] = { thread, value }
end

-- Runs fn in a new fiber, after those that are ready.
function threads:spawn(fn) push(self, coroutine.create(fn)) end

-- Makes the fiber that runs now wait until it is woken; returns what it is woken with.
function threads.park() return coroutine.yield() end

function threads:wake(thread, value) push(self, thread, value) end

-- event:wait() returns at once when event:notify() came before it.
function threads:event()
  local event = { told = false }
  function event.wait()
    if not event.told then
      event.waiter = coroutine.running()
      threads.park()
    end
    event.told = false
  end
  function event.notify()
    if event.told then return end
    event.told = true
    local waiter = event.waiter
    event.waiter = nil
    if waiter then self:wake(waiter) end
  end
  return event
end

-- Runs all that is ready, and what that makes ready. Raises what a fiber raised.
function threads:run()
  while self.first <= self.last do
    local thread, value = table.unpack(self.ready[self.first], 1, 2)
    self.ready[self.first] = nil
    self.first = self.first + 1
    if self.switch then self.switch(thread) end
    local ok, err = coroutine.resume(thread, value)
    if not ok then error(debug.traceback(thread, tostring(err)), 0) end
  end
end

return threads
