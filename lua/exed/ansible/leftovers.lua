-- SPDX-License-Identifier: MIT
-- What an operation by Ansible has left on hosts: a killed Ansible ends its ssh, but not what that
-- had started. exed goes there itself, finds it by its EXED_OP, kills it and looks again.

local config = require "exed.config"
local fanout = require "exed.fanout"
local json = require "exed.json"
local timer = require "exed.timer"

local leftovers = {}

local LIMIT <const> = 15 -- seconds for all hosts
local FAILED <const> = 3

-- The plan of a look that kills what it finds.
local function plan_of(run, transport)
  return {
    transport = transport, command = ":", verdict = { default = FAILED }, look = true,
    forbid = "ended", op = run.made.op, try = 1, timeout = LIMIT,
    settle_until = timer.now() + LIMIT, -- until then it is asked
    connect_timeout = config.ssh.connect_timeout, urgent = true, keep = run.made.keep,
  }
end

-- Adds what the hosts say to found, by index.
local function ask(run, hosts, transport, found)
  if #hosts == 0 then return end
  local handles, indexes = {}, {}
  for i, host in ipairs(hosts) do handles[i], indexes[i] = host.handle, host.index end
  local fan = fanout.start(plan_of(run, transport), handles, indexes)
  if not fan then return end
  local deadline = timer.now() + LIMIT + 1
  while true do
    local entries = fan:next(math.max(0, deadline - timer.now()))
    if not entries then break end
    for _, entry in ipairs(entries) do
      if entry.kind == "record" then found[entry.index] = json.decode(entry.data) end
    end
  end
  fan:cancel "its time is over"
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
