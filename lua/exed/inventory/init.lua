-- SPDX-License-Identifier: MIT
-- Inventories in Ansible's format: which machines there are, in which groups, how to reach them.
-- An inventory never changes once it is read. Nothing here waits; a file that is broken gives
-- nil and an error: code "inventory", message "file:line: what is wrong and what would be right".

local build = require "exed.inventory.build"
local merge = require "exed.inventory.merge"
local pattern = require "exed.pattern"
local read_ini = require "exed.inventory.ini"
local read_yaml = require "exed.inventory.yaml"
local settings = require "exed.inventory.settings"
local value = require "exed.inventory.value"

local inventory = {}
inventory.__index = inventory
inventory.__name = "inventory"

local MAX_HOSTS = 200000 -- hosts in one file
local MAX_SIZE = 64 << 20 -- bytes in one file

-- Makes lists and nulls in variables those of a JSON module (its `null` and its `array`).
inventory.use_json = value.use

local function ending(name)
  local found = (name:match "%.([%w]+)$" or ""):lower()
  if found == "yml" or found == "yaml" or found == "json" then return "yaml" end
  return (found == "ini" or found == "cfg") and "ini" or nil
end

-- The format by the first line that says something, then by the ending of the file's name.
local function format_of(name, text)
  for line in text:gmatch "[^\r\n]+" do
    local bare = line:match "^%s*(.-)%s*$"
    if bare:find "^%-%-%-" or bare:find "^[{%%]" then return "yaml" end
    if bare:find "^;" or bare:find "^%[[^%[%],'\"]+%]%s*#?" then return "ini" end
    if bare ~= "" and not bare:find "^#" then
      local key = bare:find "^[%w_.\"'-]+:%s*$" or bare:find "^[%w_.\"'-]+:%s+[^=]*$"
      return ending(name) or (key and "yaml") or "ini"
    end
  end
  return ending(name) or "ini"
end

local function read(builder, name, text)
  if text:find "^#!" then
    builder:fail(1, "this is a script; an inventory is a file in INI or YAML form, "
      .. "save the script's output as YAML instead")
  end
  if text:find "^%$ANSIBLE_VAULT" then
    builder:fail(1, "the file is encrypted by ansible-vault, exed has no key for it")
  end
  local zero = text:find("\0", 1, true)
  if zero then
    local _, breaks = text:sub(1, zero):gsub("\n", "")
    builder:fail(breaks + 1, "a NUL byte; an inventory is a text file")
  end
  local reader = format_of(name, text) == "yaml" and read_yaml or read_ini
  reader(builder, text)
  return setmetatable(merge(builder), inventory)
end

-- Reads an inventory from a text. `name` stands for the file in messages and tells the format
-- where the text does not. options, all optional:
--   max_hosts  limit on hosts (200,000)      home   for ~/ in key paths (HOME)
--   pause      function, called every 500 steps so that a large file can be read in turns
-- Returns the inventory, or nil and an error.
function inventory.parse(name, text, options)
  options = options or {}
  local builder = build.new {
    file = name, max_hosts = options.max_hosts or MAX_HOSTS, pause = options.pause,
    home = options.home or os.getenv "HOME",
  }
  local ok, found = pcall(read, builder, name, (text:gsub("^\239\187\191", "")))
  if ok then return found end
  if type(found) == "table" and found.code == "inventory" then return nil, found end
  return nil, { code = "inventory", message = name .. ": cannot be read: " .. tostring(found) }
end

-- The text of a file, or nil and an error. Asks for a regular file: others may block.
function inventory.read_file(path, max_size)
  local limit = max_size or MAX_SIZE
  local file, problem = io.open(path, "rb")
  if not file then
    local why = tostring(problem):gsub("^.*: ", "")
    return nil, { code = "inventory", message = path .. ": cannot be opened: " .. why }
  end
  local text, failed = file:read(limit + 1)
  file:close()
  if failed then
    return nil, { code = "inventory", message = path .. ": cannot be read: " .. tostring(failed) }
  end
  if text and #text > limit then
    return nil, { code = "inventory", message = ("%s: larger than %d bytes, which is the limit")
      :format(path, limit) }
  end
  return text or ""
end

-- Reads an inventory file: read_file, then parse.
function inventory.load(path, options)
  local text, err = inventory.read_file(path, options and options.max_size)
  if not text then return nil, err end
  return inventory.parse(path, text, options)
end

-- Hosts of a group in Ansible's order: its own, then those of its children, level by level.
-- The list is kept: do not change it. nil when there is no such group.
function inventory:members(name)
  local group = self.groups[name]
  if not group then return nil end
  if group.members then return group.members end
  local found, has, level, seen = {}, {}, { group }, { [group] = true }
  while #level > 0 do
    local below = {}
    for _, item in ipairs(level) do
      for _, host in ipairs(item.hosts) do
        if not has[host] then
          has[host] = true
          found[#found + 1] = host
        end
      end
      for _, child in ipairs(item.children) do
        if not seen[child] then
          seen[child] = true
          below[#below + 1] = child
        end
      end
    end
    level = below
  end
  group.members = found
  return found
end

-- The host of that name, or nil.
function inventory:host(name) return self.by_name[name] end

-- A secret variable of a host (ansible_password and its like), or nil.
function inventory:secret(host, name)
  local secrets = self.secrets[host.name]
  return secrets and secrets[name]
end

-- All variables of a host, its groups' among them, in one new table without metatable.
function inventory.vars(host)
  local flat = {}
  for key, found in pairs(host.vars) do flat[key] = found end
  return flat
end

-- The password for the login on a host, or nil.
function inventory:password(host)
  return settings.password(function(name) return self:secret(host, name) end)
end

-- The password that sudo asks for on a host, or nil.
function inventory:become_password(host)
  return settings.become_password(function(name) return self:secret(host, name) end)
end

-- A host as plain data for people and programs; it holds no secret.
function inventory.describe(host)
  local groups = value.array {}
  for name in pairs(host.groups) do groups[#groups + 1] = name end
  table.sort(groups)
  return {
    name = host.name, address = host.address, port = host.port, user = host.user,
    connection = host.connection, disabled = host.disabled, groups = groups,
    vars = inventory.vars(host),
  }
end

-- The hosts that a pattern names; see exed.pattern.
function inventory:match(text) return pattern.match(self, text) end

-- The hosts that a list of targets names, and the targets that name none; see exed.pattern.
function inventory:resolve(targets) return pattern.resolve(self, targets) end

return inventory
