-- SPDX-License-Identifier: MIT
-- Collects groups, hosts and variables while a file is read. What both formats share is here;
-- what the collected parts mean together (depths, merged variables) is in merge.lua.
-- Problems of the file are raised as an error table: code "inventory", message "file:line: ...".

local names = require "exed.inventory.names"
local settings = require "exed.inventory.settings"
local value = require "exed.inventory.value"
local words = require "exed.words"

local build = {}
build.__index = build

local MAX_WARNINGS = 1000 -- kept; more would say the same
local PAUSE_EVERY = 50 -- steps between two calls of options.pause

-- Starts an empty inventory. options: file (name for messages), max_hosts, home, pause.
function build.new(options)
  local self = setmetatable({
    name = options.file, file = options.file, max_hosts = options.max_hosts, home = options.home,
    pause = options.pause, steps = 0,
    groups = {}, group_by = {}, hosts = {}, host_by = {}, warnings = {},
  }, build)
  self:add_child(self:group("all"), self:group("ungrouped"))
  return self
end

-- Ends the reading with a message that names file and line.
function build:fail(line, text, ...)
  local message = select("#", ...) > 0 and text:format(...) or text
  error({ code = "inventory", message = self:place(line) .. message }, 0)
end

-- The file that is read from now on, for messages.
function build:enter(file) self.file = file end

-- "file:line: "; without a line for what has none, such as the output of a program.
function build:place(line)
  return line and ("%s:%d: "):format(self.file, line) or self.file .. ": "
end

function build:warn(line, text, ...)
  if #self.warnings >= MAX_WARNINGS then return end
  self.warnings[#self.warnings + 1] = self:place(line) .. text:format(...)
end

-- Counts a step of work, so that a large file does not hold its thread for long.
function build:step()
  self.steps = self.steps + 1
  if self.pause and self.steps % PAUSE_EVERY == 0 then self.pause() end
end

-- The group of that name, made when it is new.
function build:group(name, line)
  local group = self.group_by[name]
  if group then return group end
  if name == "" or name:find("%c") then
    self:fail(line, "a group name is empty or has control characters")
  end
  if name:find("[%s,:!&*?%[%]~]") then
    self:warn(line, "the group name %s has characters that patterns cannot name", words.show(name))
  end
  group = {
    name = name, line = line, id = #self.groups + 1, hosts = {}, has = {},
    children = {}, parents = {}, vars = {}, secrets = {}, priority = 1,
  }
  self.groups[group.id], self.group_by[name] = group, group
  return group
end

-- True when `wanted` is `group` or one of its ancestors.
local function descends(group, wanted)
  local todo, seen = { group }, { [group] = true }
  while #todo > 0 do
    local next_group = table.remove(todo)
    if next_group == wanted then return true end
    for _, parent in ipairs(next_group.parents) do
      if not seen[parent] then
        seen[parent] = true
        todo[#todo + 1] = parent
      end
    end
  end
  return false
end

function build:add_child(parent, child, line)
  if child.parents[parent] then return end
  if parent == child then
    self:fail(line, "the group '%s' cannot be its own child", child.name)
  end
  if descends(parent, child) then
    self:fail(line, "the group '%s' cannot be a child of '%s': that makes a circle", child.name,
      parent.name)
  end
  child.parents[parent] = true
  child.parents[#child.parents + 1] = parent
  parent.children[#parent.children + 1] = child
end

function build:add_host(name, group, line)
  self:step()
  local host = self.host_by[name]
  if not host then
    local ok, problem = names.check_host(name)
    if not ok then self:fail(line, "bad host name %s: %s", words.show(name), problem) end
    if #self.hosts >= self.max_hosts then
      self:fail(line, "more than %d hosts, which is the limit", self.max_hosts)
    end
    host = { name = name, file = self.file, line = line, groups = {}, secrets = false, vars = {} }
    self.hosts[#self.hosts + 1], self.host_by[name] = host, host
  end
  if not group.has[host] then
    group.has[host] = true
    group.hosts[#group.hosts + 1] = host
    host.groups[#host.groups + 1] = group
  end
  return host
end

-- The host names of a pattern with ranges and port, and the port or nil.
function build:expand(text, line)
  local name, port, problem = names.split_port(text)
  if not name then self:fail(line, "bad host %s: %s", words.show(text), problem) end
  if name == "---" then
    self:fail(line, "'---' begins a YAML file, but this one is read as INI: name it .yml")
  end
  if not name:find("[%[%]]") then return { name }, port end
  local list, why = names.expand(name, self.max_hosts)
  if not list then self:fail(line, "bad host %s: %s", words.show(text), why) end
  return list, port
end

-- Sets a variable of a group or host (`owner`), checked when it is one that exed itself reads.
function build:set(owner, name, found, line)
  if type(name) ~= "string" then
    self:fail(line, "the name of a variable must be text, got %s: put it in quotes",
      words.show(name))
  end
  if name == "ansible_group_priority" and owner.priority then
    local priority = math.tointeger(tonumber(found))
    if not priority then
      self:fail(line, "ansible_group_priority must be a whole number, got %s", words.show(found))
    end
    owner.priority = priority
    return
  end
  if settings.is_secret(name) then
    local clean, odd, problem = settings.check_secret(found)
    if problem then self:fail(line, "%s: %s", name, problem) end
    if odd then self:warn(line, "%s: %s", name, odd) end
    owner.secrets = owner.secrets or {}
    owner.secrets[name] = clean
    return
  end
  local clean, problem, odd = settings.check(name, found, self.home)
  if problem and owner.from_file and settings.is_template(found) then
    return self:block(owner, name, "is a template, which is not evaluated", line)
  end
  if problem then self:fail(line, "%s: %s, got %s", name, problem, words.show(found)) end
  if odd then self:warn(line, "%s: %s", name, odd) end
  owner.vars[name] = clean
end

-- Notes a variable whose value cannot be read. It is left out; when it says how a host is reached,
-- the host cannot be reached without it, and all others can.
function build:block(owner, name, why, line)
  self:warn(line, "%s %s", words.show(name), why)
  if settings.is_setting(name) then
    owner.vars[name] = value.blocked(("%s%s %s"):format(self:place(line), name, why))
  end
end

-- Where the variables of files for a group or host are kept, beside those of the inventory itself.
function build.files_of(owner)
  owner.files = owner.files or { vars = {}, secrets = false, from_file = true }
  return owner.files
end

return build
