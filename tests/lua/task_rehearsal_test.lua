-- SPDX-License-Identifier: MIT
-- The rehearsal of tasks: a rolling restart on a fake fleet, and that it survives kills.

local sys = require "exed.sys"
local test = require "exed.test"
local t = require "support"

local TASKS <const> = sys.share() .. "/tasks"
local ARGS <const> = { service = "nginx", size = 3 }

local function fleet_of_12()
  local fleet = test.fleet { "web[01:12]", dir = TASKS, vars = { rack = "a" } }
  fleet:answer { op = "service", host = "web06", status = "FAILED", error = "unit failed" }
  return fleet
end

t.test("a rolling restart stops at the first host that fails", function()
  local result = fleet_of_12():run("rolling_restart", { args = ARGS })
  t.eq(result.state, 2)
  t.has(result.error.message, "1 of 12 hosts failed, more than max_failed, 0")
  t.eq(result.outcomes.web05.status, "CHANGED")
  t.eq(result.outcomes.web06, { status = "FAILED", text = "web06: service: unit failed" })
  t.eq(result.outcomes.web12.status, "SKIPPED")
end)

t.test("what was drained is put back, also on the host that failed", function()
  local balance = {}
  for _, step in ipairs(fleet_of_12():run("rolling_restart", { args = ARGS }).steps) do
    local change = step.what:find "drain" and 1 or step.what:find "restore" and -1 or 0
    balance[step.host] = (balance[step.host] or 0) + change
  end
  for host, left in pairs(balance) do t.eq(left, 0, host) end
end)

t.test("it survives the death of its node at every event", function()
  local told = fleet_of_12():survives("rolling_restart", { args = ARGS }, function(result)
    t.eq(result.outcomes.web06.status, "FAILED")
  end)
  if told.runs < 3 or told.events < 50 then error "hardly anything was killed" end
end)

t.test("a cancel puts back and skips the rest", function()
  local result = fleet_of_12():run("rolling_restart", { args = ARGS, cancel_at = 6 })
  t.eq({ result.state, result.error.code }, { 2, "cancelled" })
  t.eq(result.outcomes.web12.status, "SKIPPED")
end)

t.done()
