-- SPDX-License-Identifier: MIT
-- Hosts and sets of hosts, as tasks and scripts see them. A set is a list of hosts that never
-- changes; each function returns a new one. One object stands for a host. What they hold lies
-- behind one key that tasks have not got, so that all that a task sets there is refused.

local fail = require "exed.task.fail"
local pattern = require "exed.pattern"
local same = require "exed.task.same"

local hosts = {}

local INSIDE <const> = {}

-- What an object made here holds; nil of any other value.
local function inside(value) return type(value) == "table" and rawget(value, INSIDE) or nil end
hosts.inside = inside

-- An object that holds fields, with meta; what is in fields can be read, but not set.
function hosts.sealed(fields, meta) return setmetatable({ [INSIDE] = fields }, meta) end

-- ---- hosts --------------------------------------------------------------------------------------

local host_methods = {}
local host_meta = { __name = "host", __metatable = false }
function host_meta.__index(self, key)
  local value = self[INSIDE][key]
  if value ~= nil then return value end
  return host_methods[key]
end
function host_meta.__newindex(self, key)
  fail.usage("%s: a host's field '%s' cannot be set", self.name, tostring(key))
end
function host_meta.__tostring(self) return self.name end
hosts.host_methods = host_methods

-- A table that can be read only; `what` is for the message.
local function read_only(values, what)
  return setmetatable({}, {
    __index = values,
    __newindex = function(_, key) fail.usage("%s: '%s' cannot be set", what, tostring(key)) end,
    __pairs = function() return same.pairs(values) end,
    __metatable = false,
  })
end

-- A host object. given: name, address, groups (list of names), vars; index is its place among the
-- job's targets, from 0; world: what hosts and sets of one runtime have in common ({ rt = runtime
-- }).
function hosts.host(given, index, world)
  local groups = {}
  for _, name in ipairs(given.groups or {}) do groups[name] = true end
  return hosts.sealed({
    name = given.name, address = given.address or given.name, index = index, world = world,
    vars = read_only(given.vars or {}, given.name .. ".vars"),
    groups = read_only(groups, given.name .. ".groups"),
  }, host_meta)
end

function hosts.is_host(value) return inside(value) ~= nil and inside(value).index ~= nil end

-- ---- sets ---------------------------------------------------------------------------------------

local set_methods = {}
local set_meta = { __name = "set", __metatable = false }
function set_meta.__index(self, key)
  if math.type(key) == "integer" then return self[INSIDE].list[key] end
  return set_methods[key]
end
function set_meta.__len(self) return #self[INSIDE].list end
function set_meta.__pairs(self) return ipairs(self[INSIDE].list) end
function set_meta.__newindex()
  fail.usage "a set of hosts does not change: each function makes a new one"
end
function set_meta.__tostring(self) return table.concat(self:names(), ", ") end
hosts.set_methods = set_methods

function hosts.is_set(value) return inside(value) ~= nil and inside(value).list ~= nil end

-- A set of the hosts of a list, which it keeps. drop(results), if given, is called with the results
-- of each operation on it, in place of raising: a batch.
function hosts.set(list, world, drop)
  return hosts.sealed({ list = list, world = world, drop = drop }, set_meta)
end

-- The list of hosts that `value`, a set or a host, stands for; others raise with `what`.
function hosts.list(value, what)
  if hosts.is_set(value) then return inside(value).list end
  if hosts.is_host(value) then return { value } end
  fail.usage("%s wants a set of hosts, got %s", what, type(value))
end

-- What exed.pattern needs to know of these hosts.
local function view(list)
  local by_name, groups, order = {}, {}, {}
  for _, host in ipairs(list) do
    by_name[host.name] = host
    for name in pairs(host.groups) do
      if not groups[name] then
        groups[name] = {}
        order[#order + 1] = name
      end
      table.insert(groups[name], host)
    end
  end
  table.sort(order)
  if not groups.all then
    table.insert(order, 1, "all")
    groups.all = table.move(list, 1, #list, 1, {})
  end
  return {
    hosts = list, by_name = by_name, order = order, groups = groups,
    members = function(_, name) return groups[name] end,
  }
end

-- What a host or a set belongs to.
function hosts.world(value) return inside(value).world end

local function of(self, list) return hosts.set(list, hosts.world(self)) end

-- The runtime of a host or a set.
function hosts.runtime(value) return inside(value).world.rt end

function set_methods:filter(fn)
  local kept = {}
  for _, host in ipairs(self) do
    if fn(host) then kept[#kept + 1] = host end
  end
  return of(self, kept)
end

local function members(self)
  local has = {}
  for _, host in ipairs(self) do has[host] = true end
  return has
end

function set_methods:has(host)
  for _, one in ipairs(self) do
    if one == host then return true end
  end
  return false
end

function set_methods:minus(other)
  local without = members(hosts.list(other, "set:minus"))
  return self:filter(function(host) return not without[host] end)
end

function set_methods:names()
  local names = {}
  for i, host in ipairs(self) do names[i] = host.name end
  return names
end

-- The hosts of this set that an inventory pattern (or a list of them) names, in this set's order.
function set_methods:match(text)
  local list = table.move(self, 1, #self, 1, {})
  local found, err = pattern.resolve(view(list), type(text) == "table" and text or { text })
  if not found then fail.usage("set:match: %s", err.message) end
  local has = members(found)
  return self:filter(function(host) return has[host] end)
end

local function rank(value)
  if value == "" then return 3 end
  return type(value) == "number" and 1 or 2
end

-- for value, hosts in set:by "rack" do: in order of the value, hosts without it last, under "".
function set_methods:by(var)
  local values, groups = {}, {}
  for _, host in ipairs(self) do
    local value = host.vars[var]
    if value == nil then value = "" end
    if type(value) ~= "number" then value = tostring(value) end
    if not groups[value] then
      groups[value] = {}
      values[#values + 1] = value
    end
    table.insert(groups[value], host)
  end
  table.sort(values, function(a, b)
    if rank(a) ~= rank(b) then return rank(a) < rank(b) end
    return a < b
  end)
  local i = 0
  return function()
    i = i + 1
    if values[i] ~= nil then return values[i], of(self, groups[values[i]]) end
  end
end

return hosts
