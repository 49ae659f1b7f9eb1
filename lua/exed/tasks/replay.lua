-- SPDX-License-Identifier: MIT
-- Whether a source fits a journal: the task is run again from its start, the journal answers, and
-- nothing is done to the world.

local driver = require "exed.task.driver"
local session = require "exed.task.session"
local threads = require "exed.task.threads"

local replay = {}

-- options: start and sources (of exed.task.program), entries (oldest first), output(n, index,
-- stream) -> text, at once.
-- Returns { fits, message } and, when it fits, effects (how many the journal has) and what comes
-- after them: next (the effect that would be asked), ends (the task's result), or neither: it waits
-- for an answer that the journal has not.
function replay.check(options)
  local fibers, outbox, asked = threads.new(), {}, nil
  local d, result, err
  local s = session.new {
    start = options.start, sources = options.sources, output = options.output,
    emit = function(message) d:push(message) end,
  }
  d = driver.new {
    entries = options.entries, event = fibers:event(),
    write = function(entries)
      for _, entry in ipairs(entries) do asked = asked or entry.ask end
      return nil, { code = "new" }
    end,
    execute = function() end, cancel = function() end, print = function() end,
    may_park = function() return false end,
    send = function(message) outbox[#outbox + 1] = message end,
    now = function() return options.start.at end,
    host_name = function(index)
      local host = options.start.hosts[index + 1]
      return host and host.name or "node"
    end,
  }
  local ended = false
  fibers:spawn(function()
    result, err = d:run()
    ended = true
  end)
  s:start()
  while true do
    fibers:run()
    local message = not ended and table.remove(outbox, 1)
    if not message then break end
    s:deliver(message)
  end
  if result and result.conflict then return { fits = false, message = result.error.message } end
  if result and result.disorder then return { fits = false, message = result.error.message } end
  return { fits = true, effects = d.known, next = err and asked, ends = result }
end

return replay
