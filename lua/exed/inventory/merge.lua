-- SPDX-License-Identifier: MIT
-- Turns collected groups and hosts into an inventory, by Ansible's rules: every host is in `all`,
-- hosts of no other group are in `ungrouped`, a deeper group's variables win, then the higher
-- ansible_group_priority, then the later name. Variables of files (group_vars) win over those of
-- groups in the inventory itself; a host's own win over all, those of its files (host_vars) last.
-- Hosts in the same groups share one table of merged variables.

local jump = require "exed.inventory.jump"
local settings = require "exed.inventory.settings"
local value = require "exed.inventory.value"

-- The ancestors of a list of groups, themselves included, each once.
local function closure(groups)
  local found, seen = {}, {}
  local todo = table.move(groups, 1, #groups, 1, {})
  while #todo > 0 do
    local group = table.remove(todo)
    if not seen[group] then
      seen[group] = true
      found[#found + 1] = group
      for _, parent in ipairs(group.parents) do todo[#todo + 1] = parent end
    end
  end
  return found
end

-- Takes the hosts that are in another group out of `ungrouped`, and puts those in no group there.
local function settle_ungrouped(builder, all, ungrouped)
  local kept = {}
  for _, host in ipairs(ungrouped.hosts) do
    local elsewhere = false
    for _, group in ipairs(host.groups) do
      elsewhere = elsewhere or (group ~= all and group ~= ungrouped)
    end
    if not elsewhere then
      kept[#kept + 1] = host
    else
      ungrouped.has[host] = nil
      for i = #host.groups, 1, -1 do
        if host.groups[i] == ungrouped then table.remove(host.groups, i) end
      end
    end
  end
  ungrouped.hosts = kept
  for _, host in ipairs(builder.hosts) do
    builder:step()
    if #host.groups == 0 or (#host.groups == 1 and host.groups[1] == all) then
      builder:add_host(host.name, ungrouped)
    end
  end
end

-- Sets each group's depth: the length of the longest way to it from `all`.
local function set_depths(groups)
  local waiting, ready = {}, {}
  for _, group in ipairs(groups) do
    group.depth, waiting[group] = 0, #group.parents
    if #group.parents == 0 then ready[#ready + 1] = group end
  end
  while #ready > 0 do
    local group = table.remove(ready)
    for _, child in ipairs(group.children) do
      child.depth = math.max(child.depth, group.depth + 1)
      waiting[child] = waiting[child] - 1
      if waiting[child] == 0 then ready[#ready + 1] = child end
    end
  end
end

local function weaker(a, b)
  if a.depth ~= b.depth then return a.depth < b.depth end
  if a.priority ~= b.priority then return a.priority < b.priority end
  return a.name < b.name
end

local function copy_into(target, source)
  for key, found in next, source do target[key] = found end
  return target
end

local function drop_nulls(vars)
  for key, found in pairs(vars) do
    if found == value.null then vars[key] = nil end
  end
  return vars
end

-- Puts `instead` in place of the values that cannot be read. Returns why they cannot, by name, or
-- nil when there are none.
local function take_blocked(vars, instead)
  local blocked
  for key, found in pairs(vars) do
    local why = value.why_blocked(found)
    if why then
      blocked = blocked or {}
      blocked[key], vars[key] = why, instead
    end
  end
  return blocked
end

-- What hosts of the same direct groups share: the set of group names, merged variables, secrets.
local function profile_of(groups)
  local profile = { groups = {}, vars = {}, secrets = {} }
  local line = closure(groups)
  table.sort(line, weaker)
  for _, group in ipairs(line) do
    profile.groups[group.name] = true
    copy_into(profile.vars, group.vars)
    copy_into(profile.secrets, group.secrets)
  end
  for _, group in ipairs(line) do
    if group.files then
      copy_into(profile.vars, group.files.vars)
      copy_into(profile.secrets, group.files.secrets or {})
    end
  end
  profile.blocked = take_blocked(profile.vars)
  drop_nulls(profile.vars)
  local shared = profile.vars
  profile.mt = {
    __index = shared,
    __pairs = function(own) return next, copy_into(copy_into({}, shared), own), nil end,
  }
  return profile
end

-- The variables of one host: its own before the shared ones. A null among its own hides a shared
-- one, which needs a table of its own.
local function host_vars(own, profile)
  if next(own) == nil then return profile.vars end
  for _, found in pairs(own) do
    if found == value.null then
      return drop_nulls(copy_into(copy_into({}, profile.vars), own))
    end
  end
  return setmetatable(own, profile.mt)
end

local HOST_MT = { __name = "host", __tostring = function(host) return host.name end }

local function finish_host(builder, found, index, profiles, secrets)
  local ids = {}
  for i, group in ipairs(found.groups) do ids[i] = group.id end
  table.sort(ids)
  local key = table.concat(ids, ",")
  local profile = profiles[key]
  if not profile then
    profile = profile_of(found.groups)
    profiles[key] = profile
  end
  if found.files then
    copy_into(found.vars, found.files.vars)
    found.secrets = copy_into(found.secrets or {}, found.files.secrets or {})
  end
  local blocked = take_blocked(found.vars, value.null)
  local own = found.vars
  local vars = host_vars(own, profile)
  local host = setmetatable({
    name = found.name, index = index, groups = profile.groups, vars = vars,
  }, HOST_MT)
  settings.apply(host, function(name) return vars[name] end, function(name)
    if blocked and blocked[name] then return blocked[name] end
    return profile.blocked and rawget(own, name) == nil and profile.blocked[name] or nil
  end)
  if found.secrets or next(profile.secrets) then
    secrets[host.name] = copy_into(copy_into({}, profile.secrets), found.secrets or {})
  end
  builder:step()
  return host
end

-- Ends the collecting. Returns the plain parts of an inventory:
--   hosts     list of hosts in the order of the file    by_name  the same by name
--   groups    group by name: name, hosts, children, parents (lists), vars, priority, depth
--   order     names of the groups in the order of the file
--   secrets   host name -> secret variables             warnings list of texts
local function merge(builder)
  local all, ungrouped = builder.group_by.all, builder.group_by.ungrouped
  for _, group in ipairs(builder.groups) do
    if group ~= all and #group.parents == 0 then builder:add_child(all, group) end
  end
  settle_ungrouped(builder, all, ungrouped)
  set_depths(builder.groups)

  local parts = {
    file = builder.name, warnings = builder.warnings, hosts = {}, by_name = {}, groups = {},
    order = {}, secrets = {},
  }
  local profiles = {}
  for index, found in ipairs(builder.hosts) do
    local host = finish_host(builder, found, index, profiles, parts.secrets)
    parts.hosts[index], parts.by_name[host.name] = host, host
    if builder.group_by[host.name] then
      builder:enter(found.file)
      builder:warn(found.line, "'%s' names a host and a group", host.name)
    end
  end
  jump.resolve(parts, function(index, problem)
    builder:enter(builder.hosts[index].file)
    builder:warn(builder.hosts[index].line, "%s: %s", parts.hosts[index].name, problem)
  end, function() builder:step() end)
  for index, group in ipairs(builder.groups) do
    parts.order[index], parts.groups[group.name] = group.name, group
    for i, found in ipairs(group.hosts) do
      builder:step()
      group.hosts[i] = parts.by_name[found.name]
    end
    group.has, group.id = nil, nil
    take_blocked(group.vars)
    drop_nulls(group.vars)
  end
  return parts
end

return merge
