-- SPDX-License-Identifier: MIT
-- Standard input of a verb that gives it to hosts: read to its end before anything runs.

local fiber = require "exed.fiber"
local options = require "exed.cli.options"
local stdio = require "exed.stdio"
local timer = require "exed.timer"

local stdin = {}

-- Seconds after which a person is told what is waited for: a pipe that nobody closes, mostly.
local QUIET <const> = 5

stdin.size = {
  "max-stdin", type = "size", default = 64 << 20, shown = "64m", value = "SIZE",
  help = "limit of standard input",
}
stdin.time = {
  "stdin-timeout", type = "duration", default = 3600, shown = "1h", value = "TIME",
  help = "limit for the end of standard input to come",
}

local WHY <const> = {
  limit = "standard input has %s, which is the limit (--max-stdin)",
  timeout = "standard input did not end within %s (--stdin-timeout)",
}

-- All of it, or nil, err. out: where a person is told that it is waited for. What is over a limit
-- is wrong usage.
function stdin.read(given, out, hint)
  local waiting = fiber.spawn("standard input", function()
    timer.sleep(QUIET)
    out:note("standard input has not ended yet%s", hint or "")
    out:flush()
  end)
  local bytes, err = stdio.read(0, given["max-stdin"], given["stdin-timeout"])
  if waiting then waiting:cancel() end
  if bytes then return bytes end
  local limit = err.code == "timeout" and ("%g s"):format(given["stdin-timeout"]) or err.message
  if WHY[err.code] then options.refuse(WHY[err.code], limit) end
  return nil, err
end

return stdin
