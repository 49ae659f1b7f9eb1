-- SPDX-License-Identifier: MIT
-- What an operation has left running where nobody holds its connection or process any more: exed
-- goes there, finds it by its EXED_OP, kills it and looks again.

local config = require "exed.config"
local fanout = require "exed.fanout"
local json = require "exed.json"
local timer = require "exed.timer"

local leftovers = {}

local LIMIT <const> = 15 -- seconds for all hosts
local FAILED <const> = 3

-- The plan of a look that kills what it finds.
local function plan_of(asked)
  return {
    transport = asked.transport, command = ":", verdict = { default = FAILED }, look = true,
    forbid = "ended", op = asked.op, try = 1, timeout = LIMIT,
    settle_until = timer.now() + LIMIT, -- until then it is asked
    connect_timeout = config.ssh.connect_timeout, urgent = true, keep = asked.keep,
  }
end

-- Kills what runs of an operation on hosts (handles, and an index each). asked: op, transport,
-- keep. Waits. Returns by index what was found: killed, survivors, killed_by.
function leftovers.kill(asked, handles, indexes)
  local found = {}
  if #handles == 0 then return found end
  local fan = fanout.start(plan_of(asked), handles, indexes)
  if not fan then return found end
  local deadline = timer.now() + LIMIT + 1
  while true do
    local entries = fan:next(math.max(0, deadline - timer.now()))
    if not entries then break end
    for _, entry in ipairs(entries) do
      if entry.kind == "record" then found[entry.index] = json.decode(entry.data) end
    end
  end
  fan:cancel "its time is over"
  return found
end

return leftovers
