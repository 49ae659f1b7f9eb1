-- SPDX-License-Identifier: MIT
-- Plans of the ssh executor, as data.

local test = require "exed.test"

test.case("execute is the client's command, as it is", function()
  local args = { command = "echo '{host.name}'" }
  local plan = assert(test.plan("ssh", { op = "execute", args = args }))
  assert(plan.transport == "ssh" and plan.command == "echo '{host.name}'")
  assert(plan.verdict[0] == "CHANGED" and plan.verdict.default == "FAILED")
  assert(not plan.repeatable)
end)

test.case("ping and facter only look, so they may be repeated", function()
  assert(assert(test.plan("ssh", { op = "ping" })).command == nil)
  for _, op in ipairs { "ping", "facter" } do assert(test.plan("ssh", { op = op }).repeatable) end
end)

test.case("service says when a request is wrong, and an operation that is not there is refused",
  function()
    local plan, why = test.plan("ssh", { op = "service", args = { name = "-x", start = true } })
    assert(not plan and why == "bad service name or state", why)
    plan, why = test.plan("ssh", { op = "fly" })
    assert(not plan and why == "executor ssh cannot do fly", why)
  end)
