-- SPDX-License-Identifier: MIT
-- An operation that a task or a script asks for, as executors and fan-outs take it.

local env = require "exed.plan.env"
local text = require "exed.text"

local request = {}

local STATES <const> = {
  started = { start = true, restart = false }, stopped = { start = false, restart = false },
  restarted = { start = true, restart = true }, reloaded = { start = true, restart = true },
}

-- The args that executors get for an operation.
local function to_args(op, fields)
  if op == "execute" then
    return { command = fields.command or text.quote(fields.argv) }
  elseif op == "service" then
    local state = STATES[fields.state]
    return {
      name = fields.name, start = state.start, restart = state.restart,
      graceful = fields.state == "reloaded", enable = fields.enable,
    }
  end
  return fields
end

-- What plan.ask takes, of an effect's args.
function request.of(args, executor)
  return {
    operation = args.op, args = to_args(args.op, args.fields), executor = executor,
    timeout = args.timeout, window = args.window, count = #args.hosts,
  }
end

local function environment(given)
  if not given then return nil end
  local list = {}
  for name, value in pairs(given) do list[#list + 1] = name .. "=" .. value end
  table.sort(list)
  return list
end

-- Adds to a plan what the effect gives for its command, and what a success is called.
function request.apply(filled, args)
  -- The plan's are what its command works by.
  filled.env = env.merge(environment(args.fields.env), filled.env)
  filled.cwd = args.fields.cwd or filled.cwd
  filled.stdin = args.fields.stdin or filled.stdin
  if args.changes then return end
  if filled.process then filled.process.calm = true end
  for code, status in pairs(filled.verdict) do
    if status == 5 then filled.verdict[code] = 1 end
  end
end

return request
