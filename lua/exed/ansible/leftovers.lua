-- SPDX-License-Identifier: MIT
-- What an operation by Ansible has left on hosts: a killed Ansible ends its ssh, but not what that
-- had started.

local process = require "exed.process.leftovers"

local leftovers = {}

-- Adds what the hosts say to found, by index.
local function ask(run, hosts, transport, found)
  local handles, indexes = {}, {}
  for i, host in ipairs(hosts) do handles[i], indexes[i] = host.handle, host.index end
  local asked = { op = run.made.op, transport = transport, keep = run.made.keep }
  for index, what in pairs(process.kill(asked, handles, indexes)) do found[index] = what end
end

-- Kills what runs of the operation on the hosts of a run. Returns by index what was found: killed,
-- survivors, killed_by.
function leftovers.kill(run, hosts)
  local found, far, near = {}, {}, {}
  for _, host in ipairs(hosts) do
    local list = host.is_local and near or far
    list[#list + 1] = host
  end
  ask(run, near, "local", found)
  ask(run, far, "ssh", found)
  return found
end

return leftovers
