-- SPDX-License-Identifier: MIT
-- The inventory variables that exed itself reads: how a host is reached. Their values are
-- checked where they are set, and turned into the fields of a host once all are merged.

local jump = require "exed.inventory.jump"
local names = require "exed.inventory.names"
local value = require "exed.inventory.value"
local words = require "exed.words"

local settings = {}

-- Never shown with the variables; asked for by inventory:secret().
local SECRETS = {
  ansible_password = true, ansible_ssh_pass = true, ansible_ssh_password = true,
  ansible_become_password = true, ansible_become_pass = true, ansible_sudo_pass = true,
  ansible_su_pass = true, ansible_ssh_private_key_passphrase = true,
  ansible_private_key_passphrase = true,
}

local MAX_REASON = 200 -- bytes of exed_disabled
local SAMPLE = "x" -- stands for the host's name while an address that uses it is checked

-- An address with the only template that is understood, `{{ inventory_hostname }}`, filled in.
local function fill(text, name)
  return (text:gsub("{{%s*inventory_hostname%s*}}", (name:gsub("%%", "%%%%"))))
end

local function no_template(text)
  if type(text) == "string" and text:find("{{", 1, true) then
    return nil, "templates are not evaluated, write the value itself"
  end
  return true
end

local function text_of(found)
  if type(found) ~= "string" and math.type(found) ~= "integer" then
    return nil, "must be text"
  end
  local text = tostring(found)
  if text == "" then return nil, "must not be empty" end
  if text:find("%c") then return nil, "must not have control characters" end
  local ok, problem = no_template(text)
  if not ok then return nil, problem end
  return text
end

local function address(found)
  local filled = type(found) == "string" and fill(found, SAMPLE) or found
  local text, problem = text_of(filled)
  if not text then return nil, problem end
  local ok, why = names.check_address(text)
  if not ok then return nil, why end
  return found
end

local function port(found)
  local ok, problem = no_template(found)
  if not ok then return nil, problem end
  return names.to_port(found)
end

local function user(found)
  local text, problem = text_of(found)
  if not text then return nil, problem end
  local ok, why = names.check_user(text)
  return ok and text or nil, why
end

local function key(found, home)
  local text, problem = text_of(found)
  if not text then return nil, problem end
  if not text:find "^~" then return text end
  if text ~= "~" and not text:find "^~/" then
    return nil, "only ~/ is expanded, not the home directory of another user"
  end
  if not home then return nil, "the home directory for ~ is not known" end
  return home .. text:sub(2)
end

local function connection(found)
  local text, problem = text_of(found)
  if not text then return nil, problem end
  return text
end

local function shell(found)
  if found == "raw" or found == "sh" then return found end
  return nil, "must be raw or sh"
end

local function absolute(found)
  local text, problem = text_of(found)
  if not text then return nil, problem end
  if not text:find "^/" then return nil, "must be an absolute path" end
  return text
end

local BOOLEANS = {
  ["true"] = true, ["false"] = false, yes = true, no = false, ["1"] = true, ["0"] = false,
  on = true, off = false,
}

local function boolean(found)
  local known = BOOLEANS[tostring(found):lower()]
  if known == nil then return nil, "must be true or false" end
  return known
end

-- Why a host is out of service: a text, or true; false when it is not.
local function disabled(found)
  local known = BOOLEANS[tostring(found):lower()]
  if found == "" then known = false end
  if known ~= nil then return known end
  if type(found) ~= "string" or #found > MAX_REASON or found:find "%c" then
    return nil, ("must be a reason of at most %d bytes, or true or false"):format(MAX_REASON)
  end
  return found
end

-- Whom sudo is asked for; the name goes through a login shell.
local function become_user(found)
  local text, problem = user(found)
  if text and text:find("\\", 1, true) then return nil, "must not have a backslash" end
  return text, problem
end

local function jump_hosts(found)
  local text, problem = text_of(found)
  if not text then return nil, problem end
  local ok, why = jump.check(text)
  return ok and text or nil, why
end

-- Options for the ssh command: kept as they are, with a warning about what means nothing here.
local function arguments(found)
  local _, unknown = jump.read(found)
  if #unknown == 0 then return found end
  return found, nil, "not understood, and left out: " .. table.concat(unknown, ", ")
end

local CHECKS = {
  ansible_host = address, ansible_ssh_host = address,
  ansible_port = port, ansible_ssh_port = port,
  ansible_user = user, ansible_ssh_user = user,
  ansible_private_key_file = key, ansible_ssh_private_key_file = key,
  ansible_connection = connection,
  ansible_become = boolean, ansible_become_method = text_of,
  ansible_become_user = become_user, ansible_sudo_user = become_user,
  ansible_ssh_common_args = arguments, ansible_ssh_extra_args = arguments,
  exed_shell = shell, exed_jump = jump_hosts, exed_fence_dir = absolute, exed_disabled = disabled,
}

local NAMES = words.keys(CHECKS)
local OWN = {} -- exed's own among them
for _, name in ipairs(NAMES) do
  if name:find "^exed_" then OWN[#OWN + 1] = name end
end
local LOCAL = { ansible_connection = true, exed_disabled = true } -- where commands run right here

local SSH_KINDS = { ssh = true, smart = true, paramiko = true, paramiko_ssh = true }

function settings.is_secret(name) return SECRETS[name] == true end

-- Whether a variable says how a host is reached.
function settings.is_setting(name) return CHECKS[name] ~= nil end

function settings.is_template(found)
  return type(found) == "string" and (found:find("{{", 1, true) or found:find("{%", 1, true)) ~= nil
end

-- A mistyped exed_disabled must not go unseen: what it is for would be done to the host.
local function odd_name(name)
  if not name:find "^exed_" then return nil end
  local hint = words.hint(name, OWN)
  return "not a variable of exed"
    .. (hint ~= "" and hint or ": these are " .. table.concat(OWN, ", "))
end

-- Checks a variable. Returns the value to keep, or nil and what is wrong; a third result is what is
-- odd about a value that is kept.
function settings.check(name, found, home)
  local check = CHECKS[name]
  if not check then return found, nil, odd_name(name) end
  if found == value.null then return found end
  return check(found, home)
end

-- The jump hosts by the first variable that names any; "none" says that there are none.
local function jump_of(get)
  local own = get "exed_jump"
  for _, name in ipairs { "ansible_ssh_common_args", "ansible_ssh_extra_args" } do
    local given = get(name)
    own = own or given ~= nil and jump.read(given) or nil
  end
  return own ~= "none" and own or nil
end

local function connection_of(found)
  local kind = (found or "ssh"):match("[^.]*$")
  return SSH_KINDS[kind] and "ssh" or kind
end

-- Who runs the commands there, by sudo over SSH; another way is known to be there and not taken.
local function apply_become(host, get)
  if not get "ansible_become" then return end
  local method = (get "ansible_become_method" or "sudo"):match("[^.]*$")
  if method == "sudo" and host.connection == "ssh" then
    host.become = get "ansible_become_user" or get "ansible_sudo_user" or "root"
  else
    host.become_other = true
  end
end

-- Fills in how a host is reached, from its merged variables. `get` gives a variable by name;
-- of two names for the same thing the one with "ssh" in it wins, as in Ansible. `blocked` gives why
-- a variable cannot be read, or nil; then host.problem says so.
function settings.apply(host, get, blocked)
  local where = get "ansible_ssh_host" or get "ansible_host"
  host.address = where and fill(tostring(where), host.name) or host.name
  host.port = get "ansible_ssh_port" or get "ansible_port"
  host.user = get "ansible_ssh_user" or get "ansible_user"
  host.key = get "ansible_ssh_private_key_file" or get "ansible_private_key_file"
  host.connection = connection_of(get "ansible_connection")
  local form = get "exed_shell"
  host.shell = form == "raw" and form or nil
  host.jump = jump_of(get)
  host.fence_dir = get "exed_fence_dir"
  host.disabled = get "exed_disabled" or nil
  apply_become(host, get)
  for _, name in ipairs(NAMES) do
    local matters = host.connection ~= "local" or LOCAL[name]
    host.problem = host.problem or (matters and blocked(name)) or nil
  end
end

-- The password for the login on a host; `get` gives a secret variable by name.
function settings.password(get)
  local found = get "ansible_ssh_password" or get "ansible_ssh_pass" or get "ansible_password"
  return found ~= nil and found ~= value.null and tostring(found) or nil
end

-- Checks a secret variable. Returns the value to keep, nil when it is left out, with what is odd
-- about it; a third result is what is wrong. What it was is never told.
function settings.check_secret(found)
  if found == value.null then return found end
  if type(found) == "table" then return nil, nil, "must be text" end
  local text = tostring(found)
  if text:find("\0", 1, true) then return nil, nil, "must not have NUL bytes" end
  if text:find("{{", 1, true) then
    return nil, "templates are not evaluated, it is left out"
  end
  return found
end

-- The password for sudo on a host; `get` gives a secret variable by name.
function settings.become_password(get)
  local found = get "ansible_become_password" or get "ansible_become_pass"
    or get "ansible_sudo_pass"
  return found ~= nil and found ~= value.null and tostring(found) or nil
end

return settings
