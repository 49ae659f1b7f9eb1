-- SPDX-License-Identifier: MIT
-- From a host of the inventory to what the fan-out reaches: the handle that it is known by, and
-- what keeps it from being reached at all.

local fanout = require "exed.fanout"
local timer = require "exed.timer"

local reach = {}

local STEP <const> = 32 -- handles made in a turn of the loop

-- The handle of the last of a host's jump hosts, or nil; made once for all hosts behind it.
local function jump_of(inventory, hops)
  if not hops then return nil end
  if not hops.handle then
    local last
    for _, hop in ipairs(hops) do
      last = fanout.host {
        name = hop.name, address = hop.address, port = hop.port, user = hop.user, key = hop.key,
        jump = last, password = hop.host and inventory:password(hop.host),
      }
    end
    hops.handle = last
  end
  return hops.handle
end

-- The handle that fanout.start takes for a host; made once for each host of an inventory.
function reach.handle(inventory, host)
  if not host.handle then
    host.handle = fanout.host {
      name = host.name, address = host.address, port = host.port, user = host.user,
      key = host.key, raw = host.shell == "raw", fence_dir = host.fence_dir,
      become = host.become, jump = jump_of(inventory, host.hops),
      password = inventory:password(host),
      become_password = host.become and inventory:become_password(host),
    }
  end
  return host.handle
end

-- Makes the handles of the hosts of these names that have none yet, a few in each turn of the loop,
-- so that what needs them all is quick. Waits.
function reach.prepare(inventory, names)
  local made = 0
  for _, name in ipairs(names) do
    local host = inventory.by_name[name]
    if host and not host.handle then
      reach.handle(inventory, host)
      made = made + 1
      if made % STEP == 0 then timer.sleep(0) end
    end
  end
end

-- The handle of a name that the inventory has not: for records only.
function reach.stranger(name) return fanout.host { name = name } end

-- Why nothing is done to a host that is out of service (exed_disabled), or nil. Its records are
-- SKIPPED, with this as their reason: run:cancel(reason) before anything of the fan-out starts.
function reach.disabled(host)
  if not host.disabled then return nil end
  if host.disabled == true then return "disabled in the inventory" end
  return "disabled in the inventory: " .. host.disabled
end

-- The record of a host that is not even tried, or nil. repeatable: nothing is changed by it.
function reach.untried(host, repeatable)
  local disabled = reach.disabled(host)
  if disabled then return { status = 2, error = disabled, disabled = true } end
  local why
  if host.become_other and not repeatable then
    why = "ansible_become is done by sudo, over ssh, only"
  elseif host.problem then
    why = host.problem
  elseif host.connection == "local" then
    return nil
  elseif host.connection ~= "ssh" then
    why = "its ansible_connection is not known here"
  end
  return why and { status = 4, error = why }
end

return reach
