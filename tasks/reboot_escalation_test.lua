-- SPDX-License-Identifier: MIT
local test = require "exed.test"

local ALL <const> = { command = "/usr/local/bin/power-cycle" }

local function steps_of(result)
  local names = {}
  for i, step in ipairs(result.steps) do names[i] = step.step end
  return table.concat(names, " ")
end

test.case("the first method that works is the last one", function()
  local result = test.fleet({ "web01" }):run("reboot_escalation", { args = ALL })
  assert(result.state == 0)
  assert(steps_of(result) == "look ssh-sync ssh-reboot down up", steps_of(result))
  assert(result.outcomes.web01.text == "rebooted by ssh")
end)

test.case("it goes on to the next when the host stays up", function()
  local fleet = test.fleet { "web01" }
  fleet:answer { op = "wait_down", times = 2, status = "FAILED" }
  local result = fleet:run("reboot_escalation", { args = ALL })
  assert(steps_of(result) == "look ssh-sync ssh-reboot down ssh-shutdown down command down up")
  assert(result.outcomes.web01.text == "rebooted by command")
end)

test.case("each combination of what may fail ends, and says so", function()
  local fleet = test.fleet { "web01" }
  fleet:branches("reboot_escalation", { args = ALL }, { "look", "ssh-reboot", "down", "up" },
    function(result)
      local good = not result.failed.up and not result.failed.down
      assert(result.outcomes.web01.status == (good and "CHANGED" or "FAILED"))
    end)
end)

test.case("no reset comes twice when the node dies", function()
  local fleet = test.fleet { "web[01:03]" }
  fleet:answer { op = "wait_down", host = "web02", status = "FAILED" }
  local args = { command = ALL.command, size = 2, max_failed = 1 }
  fleet:survives("reboot_escalation", { args = args },
    function(result)
      assert(result.outcomes.web02.status == "FAILED")
      assert(result.outcomes.web03.status == "CHANGED")
    end)
end)
