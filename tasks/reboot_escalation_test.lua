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

test.case("a host that refuses the login is reset only when that is asked", function()
  local fleet = test.fleet { "web01" }
  fleet:answer { op = "wait_up", times = 1, status = "UNREACHABLE", error = "login refused" }
  local result = fleet:run("reboot_escalation", { args = ALL })
  assert(steps_of(result) == "look" and result.state == 2)
  assert(result.outcomes.web01.text:find "login refused")
  result = fleet:run("reboot_escalation", { args = { command = ALL.command, refused = true } })
  assert(steps_of(result) == "look ssh-sync ssh-reboot down up" and result.state == 0)
end)

test.case("a host that is up with the boot of before was not rebooted", function()
  local fleet = test.fleet { "web01" }
  fleet:answer { op = "wait_up", boot = "new" }
  fleet:answer { op = "wait_up", times = 2, boot = "old" }
  local result = fleet:run("reboot_escalation", { args = ALL })
  assert(steps_of(result) == "look ssh-sync ssh-reboot down up command down up")
  assert(result.outcomes.web01.text == "rebooted by command")
end)

test.case("a host that was reset in vain too often is handed off", function()
  local fleet = test.fleet { "web[01:03]" }
  fleet:tally("web01", "resets", 2)
  fleet:tally("web02", "resets", 3)
  local args = { command = ALL.command, max_resets = 3, within = "6h", max_failed = 3 }
  local result = fleet:run("reboot_escalation", { args = args })
  assert(result.outcomes.web01.status == "CHANGED" and result.outcomes.web03.status == "CHANGED")
  assert(result.outcomes.web02.text ==
    "handed off to people: reset 3 times within 6 h, and none helped", result.outcomes.web02.text)
  for _, step in ipairs(result.steps) do assert(step.host ~= "web02") end
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
