-- SPDX-License-Identifier: MIT
-- The ansible executor: operations by Debian's ansible-core, for hosts and roles that are already
-- kept with Ansible. Its modules need Python on the hosts. [ansible] says where playbooks are.

local ansible = require "exed.ansible"
local config = require "exed.config"
local copy = require "exed.ops.copy"
local fetch = require "exed.ops.fetch"
local service = require "exed.ops.service"

local operations = {}

local PING_LIMIT <const> = 60 -- seconds; what is slow is Python on the host

function operations.ping()
  return ansible.task("ping", "ansible.builtin.ping", {}, {
    repeatable = true, timeout = PING_LIMIT,
  })
end

function operations.execute(request)
  local args = { cmd = ansible.unsafe(request.args.command), strip_empty_ends = false }
  return ansible.task("execute", "ansible.builtin.shell", args, { output = true })
end

function operations.facter()
  return ansible.task("facter", "ansible.builtin.setup", {}, { repeatable = true, facts = true })
end

local function state_of(args)
  if args.restart then return args.graceful and "reloaded" or "restarted" end
  return args.start and "started" or "stopped"
end

function operations.service(request)
  local args = request.args
  if not service.is_good(args) then return nil, service.BAD end
  local enable = args.enable
  if enable == nil then enable = config.ssh.service_enable end
  local module = { name = ansible.unsafe(args.name), state = state_of(args) }
  if enable then module.enabled = module.state ~= "stopped" end
  return ansible.task("service", "ansible.builtin.service", module, {})
end

function operations.deploy(request) return ansible.deploy(request.args) end

-- Files go over SSH: Ansible knows no fence that a rename could be settled by.
function operations.copy(request) return copy.plan("ssh", request.args) end

function operations.restore(request) return copy.restore("ssh", request.args) end

function operations.fetch(request) return fetch.plan("ssh", request.args) end

return {
  type = "executor",
  summary = "runs operations on hosts by Ansible",
  settings = {},
  operations = operations,
}
