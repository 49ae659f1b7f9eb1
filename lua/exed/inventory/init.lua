-- SPDX-License-Identifier: MIT
-- Inventories in Ansible's format: which machines there are, in which groups, how to reach them.
-- An inventory never changes once it is read. Nothing here waits; a file that is broken gives
-- nil and an error: code "inventory", message "file:line: what is wrong and what would be right".

local build = require "exed.inventory.build"
local load = require "exed.inventory.load"
local merge = require "exed.inventory.merge"
local pattern = require "exed.pattern"
local programs = require "exed.inventory.programs"
local settings = require "exed.inventory.settings"
local source = require "exed.inventory.source"
local text_file = require "exed.text_file"
local value = require "exed.inventory.value"
local watch = require "exed.inventory.watch"

local inventory = {}
inventory.__index = inventory
inventory.__name = "inventory"

local MAX_HOSTS = 200000 -- hosts in one file
local MAX_SIZE = 64 << 20 -- bytes in one file

-- Makes lists and nulls in variables those of a JSON module (its `null` and its `array`).
inventory.use_json = value.use

local function new_builder(name, options)
  return build.new {
    file = name, max_hosts = options.max_hosts or MAX_HOSTS, pause = options.pause,
    home = options.home or os.getenv "HOME",
  }
end

-- Calls fill(builder) and makes an inventory of what it collected, or nil and an error.
local function make(name, options, fill)
  local ok, found = pcall(function()
    local builder = new_builder(name, options)
    fill(builder)
    return setmetatable(merge(builder), inventory)
  end)
  if ok then return found end
  if type(found) == "table" and found.code then return nil, found end
  local text = tostring(found)
  return nil, {
    code = text:find("not enough memory", 1, true) and "memory" or "inventory",
    message = name .. ": cannot be read: " .. text,
  }
end

-- Reads an inventory from a text. `name` stands for the file in messages and tells the format
-- where the text does not. options, all optional:
--   max_hosts  limit on hosts (200,000)      home   for ~/ in key paths (HOME)
--   pause      function, called every 50 steps so that a large file can be read in turns
-- Returns the inventory, or nil and an error.
function inventory.parse(name, text, options)
  return make(name, options or {}, function(builder) source.read(builder, text) end)
end

-- The text of a file, or nil and an error. Asks for a regular file: others may block.
function inventory.read_file(path, max_size)
  local text, problem = text_file.read(path, max_size or MAX_SIZE)
  if not text then return nil, { code = "inventory", message = problem } end
  return text
end

-- Where files are asked for, unless the options say how.
local function defaults(options)
  local known, sys = pcall(require, "exed.sys")
  local filled = {
    stat = known and sys.stat, list = known and sys.list, read = inventory.read_file,
    programs = known and programs.standard(),
  }
  for name, option in pairs(options or {}) do filled[name] = option end
  return filled
end

-- Reads what is at a path: a file, an executable or a directory, and group_vars/ and host_vars/
-- beside it. options as for parse, and those of exed.inventory.load, all optional. Returns the
-- inventory, or nil and an error; its field `blank` tells for each file whether it was.
function inventory.load(path, options)
  local filled = defaults(options)
  if not filled.stat then
    local text, err = filled.read(path, filled.max_size)
    if not text then return nil, err end
    return inventory.parse(path, text, filled)
  end
  filled.watch = filled.watch or watch.new(filled.stat)
  local blank
  local found, err = make(path, filled, function(builder)
    blank = load.into(builder, path, filled)
  end)
  if found then found.blank = blank end
  return found, err
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
  if not self.secrets[host.name] then return nil end
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
