-- SPDX-License-Identifier: MIT
-- How the ansible executor does an operation: plans of transport "ansible", which exed.ansible.run
-- runs. What a client gives is checked here and marked as data: Ansible evaluates templates in
-- strings, and a template can run programs on the node.
--
--   ansible.task(name, module, args, options) -> plan   one task on each host
--   ansible.deploy(args) -> plan | nil, err             the playbook _deploy.yml
--   ansible.missing() -> list                           what is not there that these need
--   ansible.overruled() -> text | nil                   what Ansible's environment says in vain

local config = require "exed.config"
local json = require "exed.json"
local sys = require "exed.sys"

local ansible = {}

local PROGRAM <const> = "ansible-playbook"
local DEPLOY <const> = "_deploy.yml"
-- Ansible's own variables: what they say, such as a connection's options, can run programs.
local OWN_PREFIXES <const> = { "ansible_", "exed_" }
local OWN <const> = {
  environment = true, group_names = true, groups = true, hostvars = true, inventory_dir = true,
  inventory_file = true, inventory_hostname = true, inventory_hostname_short = true, omit = true,
  play_hosts = true, playbook_dir = true, role_name = true, role_names = true, role_path = true,
  vars = true, _role = true, _targets = true,
}
local OFF <const> = { ["false"] = true, ["0"] = true, no = true, off = true, n = true, f = true }
local MAX_NAME <const> = 255 -- bytes of a role or a tag
local MAX_DEPTH <const> = 50 -- of extra_vars

local function bad(format, ...)
  return nil, { code = "bad_request", message = format:format(...) }
end

-- ---- data, not templates ------------------------------------------------------------------------

-- A value whose texts Ansible takes as they are. Numbers and truth values have nothing to evaluate.
function ansible.unsafe(value)
  if type(value) == "string" then return { __ansible_unsafe = value } end
  if type(value) ~= "table" or value == json.null then return value end
  local copy = {}
  for key, found in pairs(value) do copy[key] = ansible.unsafe(found) end
  return json.is_array(value) and json.array(copy) or copy
end

local function is_own(name)
  if OWN[name] then return true end
  for _, prefix in ipairs(OWN_PREFIXES) do
    if name:sub(1, #prefix) == prefix then return true end
  end
  return false
end

-- Names in objects cannot be marked, so they may not look like templates at all.
local function check_names(value, depth)
  if type(value) ~= "table" or value == json.null then return true end
  if depth > MAX_DEPTH then return bad("extra_vars is deeper than %d levels", MAX_DEPTH) end
  for key, found in pairs(value) do
    if type(key) == "string" and (key:find "{[{%%#]" or key:find "^__ansible") then
      return bad "extra_vars: no name in an object may hold {{, {%% or {#, or begin with __ansible"
    end
    local ok, err = check_names(found, depth + 1)
    if not ok then return nil, err end
  end
  return true
end

local function check_vars(vars)
  for name in pairs(vars) do
    if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" then
      return bad("extra_vars: a variable's name is made of letters, digits and _, got %q",
        tostring(name):sub(1, 80))
    end
    if is_own(name) then
      return bad("extra_vars: %s is Ansible's own or exed's, and not for a request to set", name)
    end
  end
  return check_names(vars, 1)
end

-- A role is a directory's name, perhaps in others, or NAMESPACE.COLLECTION.ROLE.
local function check_role(role)
  if type(role) ~= "string" or role == "" then return bad "role should be string types" end
  local ok = #role <= MAX_NAME and not role:find "[^%w_./-]" and not role:find "//"
  for part in role:gmatch "[^/]+" do ok = ok and part:find "^[%w_]" ~= nil end
  if ok and role:find "^[%w_]" and role:find "[%w_-]$" then return true end
  return bad "role: the name of a role is made of letters, digits and _ . - /"
end

local function check_tags(tags)
  for _, tag in ipairs(tags) do
    if type(tag) ~= "string" or #tag > MAX_NAME or not tag:find "^[%w_][%w_.:@/+-]*$" then
      return bad "partial: a tag is made of letters, digits and _ . : @ / + -"
    end
  end
  return true
end

-- ---- what must be there -------------------------------------------------------------------------

local function find_program()
  if not sys.stat(config.ansible.workdir) then
    return nil, {
      code = "unavailable",
      message = ("there is no directory %s on this node: [ansible] workdir"):format(
        config.ansible.workdir),
    }
  end
  for dir in (os.getenv "PATH" or "/usr/bin:/bin"):gmatch "[^:]+" do
    if sys.stat(dir .. "/" .. PROGRAM) then return true end
  end
  return nil, {
    code = "unavailable",
    message = PROGRAM .. " is not installed on this node: the ansible executor needs it "
      .. "(Debian's package ansible-core)",
  }
end

-- The playbook as it is named from workdir.
local function find_playbook(name)
  local dir, workdir = config.ansible.playbooks, config.ansible.workdir
  local path = dir:find "^/" and dir .. "/" .. name or ("%s/%s/%s"):format(workdir, dir, name)
  if sys.stat(path) then return path end
  return bad("there is no playbook %s, which the ansible executor runs for deploy", path)
end

-- What the executor lacks on this node, as texts; none for all is well.
function ansible.missing()
  local found = {}
  for _, look in ipairs { find_program, function() return find_playbook(DEPLOY) end } do
    local ok, err = look()
    if not ok then found[#found + 1] = err.message end
  end
  return found
end

-- ---- plans --------------------------------------------------------------------------------------

local VERDICT <const> = { [0] = "OK", [10] = "CHANGED", default = "FAILED" }

-- One task on each host. options: repeatable, timeout, output (the record has what was printed),
-- facts (and what was gathered).
function ansible.task(name, module, args, options)
  local ok, err = find_program()
  if not ok then return nil, err end
  return {
    transport = "ansible",
    verdict = VERDICT,
    repeatable = options.repeatable,
    timeout = options.timeout,
    ansible = {
      mode = "task", name = name, module = module, args = args, output = options.output,
      facts = options.facts,
    },
  }
end

-- Hosts are known, or not, to exed: it reaches them itself, too, to kill and to send files.
function ansible.overruled()
  local said = (os.getenv "ANSIBLE_HOST_KEY_CHECKING" or ""):lower()
  local checks = config.ssh.host_key_checking
  if checks ~= "strict" or not OFF[said] then return nil end
  return "ANSIBLE_HOST_KEY_CHECKING is not looked at: [ssh] host_key_checking is strict, so hosts "
    .. "without a key in known_hosts are not reached"
end

-- args: role, and perhaps partial (list of tags) and extra_vars.
function ansible.deploy(args)
  local tags = args.partial ~= json.null and args.partial or nil
  local vars = args.extra_vars ~= json.null and args.extra_vars or {}
  local ok, err = check_role(args.role)
  if ok then ok, err = check_tags(tags or {}) end
  if ok then ok, err = check_vars(vars) end
  if ok then ok, err = find_program() end
  if not ok then return nil, err end
  local playbook
  playbook, err = find_playbook(DEPLOY)
  if not playbook then return nil, err end
  return {
    transport = "ansible",
    verdict = VERDICT,
    ansible = {
      mode = "play", playbook = playbook, role = args.role, tags = tags,
      vars = ansible.unsafe(vars),
    },
  }
end

return ansible
