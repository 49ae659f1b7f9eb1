-- SPDX-License-Identifier: MIT
-- What one run of Ansible reads: a private directory (0700) below the node's state directory, with
-- the inventory, the playbook, the variables and the settings of ssh, and its environment. Secrets
-- are in these files (0600) only, never in arguments.

local ansible = require "exed.ansible"
local config = require "exed.config"
local dir = require "exed.process.dir"
local inventory = require "exed.inventory"
local json = require "exed.json"
local sys = require "exed.sys"

local files = {}

files.OP = "exed_op" -- the variable of a host that holds its EXED_OP
local NAMES <const> = {
  "inventory.json", "playbook.json", "vars.json", "ssh_config", "ansible.cfg",
}
local CHECKING <const> = { strict = "yes", ["accept-new"] = "accept-new", off = "no" }

-- Makes the directory with its files, which are empty. Returns true, or nil, err.
function files.make(path) return dir.make(path, NAMES) end

-- ---- hosts --------------------------------------------------------------------------------------

local function is_safe_group(name)
  return name:find "^[%w_][%w_.-]*$" and name ~= "all" and name ~= "ungrouped"
end

-- The variables of a host: those of exed's inventory, as data, and how it is reached.
local function vars_of(node, host, op)
  local vars = {}
  for name, value in pairs(inventory.vars(host)) do
    if value ~= json.null then vars[name] = ansible.unsafe(value) end
  end
  for name, value in pairs(node.holder.inventory.secrets[host.name] or {}) do
    if value ~= json.null then vars[name] = ansible.unsafe(value) end
  end
  vars.ansible_host = ansible.unsafe(host.address)
  vars.ansible_port = host.port or config.ssh.port
  vars.ansible_user = ansible.unsafe(host.user or config.ssh.user)
  vars.ansible_ssh_private_key_file = ansible.unsafe(host.key)
  if host.hops then vars.ansible_ssh_common_args = "-o ProxyJump=" .. host.name .. ".exed-jump" end
  vars[files.OP] = op
  return vars
end

-- hosts: of the inventory; ops: their EXED_OPs.
local function inventory_of(node, hosts, ops)
  local all, groups = {}, {}
  for i, host in ipairs(hosts) do
    all[host.name] = vars_of(node, host, ops[i])
    for name in pairs(host.groups) do
      if is_safe_group(name) then
        groups[name] = groups[name] or { hosts = {} }
        groups[name].hosts[host.name] = json.null
      end
    end
  end
  return { all = { hosts = all, children = next(groups) and groups or nil } }
end

-- ---- ssh ----------------------------------------------------------------------------------------

-- A word of ssh_config: in quotes, where % and $ mean something to ssh and a quote cannot stand.
local function quoted(text) return '"' .. text:gsub('["\n]', "") .. '"' end

-- A path, in which ssh would expand %.
local function path(text) return quoted((text:gsub("%%", "%%%%"))) end

-- How the hops before a host are reached: each is an alias in the file.
local function put_hops(put, host)
  local before
  for i, hop in ipairs(host.hops or {}) do
    local last = i == #host.hops
    local alias = last and host.name .. ".exed-jump" or ("%s.exed-jump-%d"):format(host.name, i)
    put("Host " .. alias)
    put("  HostName " .. quoted(hop.address))
    if hop.port then put("  Port " .. hop.port) end
    if hop.user or config.ssh.user then put("  User " .. quoted(hop.user or config.ssh.user)) end
    if hop.key then put("  IdentityFile " .. path(hop.key)) end
    if before then put("  ProxyJump " .. before) end
    before = alias
  end
end

-- [ssh] in the words of OpenSSH: nobody's own configuration is read.
local function ssh_config(hosts)
  local lines, ssh = {}, config.ssh
  local function put(line) lines[#lines + 1] = line end
  for _, host in ipairs(hosts) do put_hops(put, host) end
  put "Host *"
  put("  StrictHostKeyChecking " .. CHECKING[ssh.host_key_checking])
  if ssh.host_key_checking == "off" then
    put "  UserKnownHostsFile /dev/null"
  elseif ssh.known_hosts then
    put("  UserKnownHostsFile " .. path(ssh.known_hosts))
    put "  GlobalKnownHostsFile /dev/null"
  end
  for _, key in ipairs(ssh.key) do put("  IdentityFile " .. path(key)) end
  if #ssh.key > 0 then put "  IdentitiesOnly yes" end
  if ssh.agent then
    put("  IdentityAgent " .. (ssh.agent == "none" and "none" or path(ssh.agent)))
  end
  put "  ServerAliveInterval 15"
  put "  LogLevel ERROR"
  return table.concat(lines, "\n") .. "\n"
end

-- ---- the environment ----------------------------------------------------------------------------

-- Variables of exed's own environment stay, Ansible's settings among them; these are set for it.
-- ansible.cfg counts only when ANSIBLE_CONFIG names it.
function files.environment(where)
  local callbacks = sys.share() .. "/lua/exed/ansible/callback"
  local theirs = os.getenv "ANSIBLE_CALLBACK_PLUGINS"
  local ssh_args = os.getenv "ANSIBLE_SSH_ARGS"
  local list = {
    "LC_ALL=C.UTF-8", "ANSIBLE_NOCOLOR=1", "ANSIBLE_STDOUT_CALLBACK=exed_events",
    "ANSIBLE_CALLBACK_PLUGINS=" .. callbacks .. (theirs and ":" .. theirs or ""),
    "ANSIBLE_LOCAL_TEMP=" .. where .. "/tmp", "ANSIBLE_INVENTORY_ENABLED=yaml",
    "ANSIBLE_RETRY_FILES_ENABLED=0", "PYTHONDONTWRITEBYTECODE=1",
    "ANSIBLE_HOST_KEY_CHECKING=" .. (config.ssh.host_key_checking == "off" and "0" or "1"),
    ("ANSIBLE_TIMEOUT=%d"):format(math.max(1, math.ceil(config.ssh.connect_timeout))),
    ("ANSIBLE_SSH_ARGS=-F '%s/ssh_config' -o ControlMaster=no -o ControlPath=none%s"):format(where,
      ssh_args and " " .. ssh_args or ""),
  }
  if not os.getenv "ANSIBLE_CONFIG" then
    list[#list + 1] = "ANSIBLE_CONFIG=" .. where .. "/ansible.cfg"
  end
  if not os.getenv "ANSIBLE_PIPELINING" then list[#list + 1] = "ANSIBLE_PIPELINING=1" end
  return list
end

-- ---- all of it ----------------------------------------------------------------------------------

-- NAME=value entries as an object.
local function environment_of(list)
  local found = {}
  for _, entry in ipairs(list) do
    local name, value = entry:match "^([^=]+)=(.*)$"
    found[name] = ansible.unsafe(value)
  end
  return found
end

-- The playbook of a single task, without facts that nobody asked for. extra: env, cwd and stdin of
-- its command, or nil.
local function play_of(made, extra)
  local args = {}
  for name, value in pairs(made.args) do args[name] = value end
  args.chdir, args.stdin = ansible.unsafe(extra.cwd), ansible.unsafe(extra.stdin)
  if extra.stdin then args.stdin_add_newline = false end
  local task = { name = made.name, [made.module] = args }
  if extra.env then task.environment = environment_of(extra.env) end
  return json.array { {
    name = made.name, hosts = "all", gather_facts = false, tasks = json.array { task },
  } }
end

local function variables(made, hosts)
  if made.mode == "task" then return {} end
  local vars = {}
  for name, value in pairs(made.vars) do vars[name] = value end
  local names = {}
  for i, host in ipairs(hosts) do names[i] = host.name end
  vars._targets, vars._role = json.array(names), ansible.unsafe(made.role)
  return vars
end

-- Fills the directory for a run. made: the plan's `ansible`; hosts and ops as above; extra: env,
-- cwd and stdin of the command, or nil. Returns true, or nil, err.
function files.fill(node, where, made, hosts, ops, extra)
  local ok, err = dir.write(where, "inventory.json", json.encode(inventory_of(node, hosts, ops)))
  if ok then ok, err = dir.write(where, "vars.json", json.encode(variables(made, hosts))) end
  if ok then ok, err = dir.write(where, "ssh_config", ssh_config(hosts)) end
  if ok and made.mode == "task" then
    ok, err = dir.write(where, "playbook.json", json.encode(play_of(made, extra)))
  end
  return ok, err
end

-- The words of the command.
function files.command(where, made, forks)
  local argv = {
    "ansible-playbook", "--inventory=" .. where .. "/inventory.json", "--forks=" .. forks,
    "--extra-vars=@" .. where .. "/vars.json",
  }
  if made.tags and #made.tags > 0 then
    argv[#argv + 1] = "--tags=" .. table.concat(made.tags, ",")
  end
  argv[#argv + 1] = made.playbook or where .. "/playbook.json"
  return argv
end

return files
