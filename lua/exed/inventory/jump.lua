-- SPDX-License-Identifier: MIT
-- Jump hosts: reading them from `exed_jump` and from options for the ssh command, and finding the
-- whole way to a host. A jump host is an inventory host's name or [user@]address[:port]; several,
-- first the one that is reached first, are separated by commas.

local names = require "exed.inventory.names"
local split = require "exed.inventory.split"
local words = require "exed.words"

local jump = {}

local MAX_HOPS = 8 -- jump hosts on the way to one host
-- Options of ssh that take a value.
local TAKES_VALUE = "^%-[BbcDEeFIiJLlmOopQRSWw]$"
-- Asked for to keep connections, which are kept anyway.
local NO_EFFECT = { controlmaster = true, controlpersist = true, controlpath = true }

-- Notes what one option says: found.jump, or its text in found.unknown.
local function note(found, flag, text)
  local key, said = "proxyjump", text
  if flag == "-o" then key, said = text:match "^%s*(%w+)%s*[=%s]%s*(.-)%s*$" end
  if (flag == "-J" or flag == "-o") and key and key:lower() == "proxyjump" and said ~= "" then
    found.jump = found.jump or said
  elseif not (flag == "-o" and key and NO_EFFECT[key:lower()]) then
    found.unknown[#found.unknown + 1] = text == "" and flag or flag .. " " .. text
  end
end

-- Reads options for the ssh command. Returns the jump host that they name or nil, and the list of
-- what in them is not understood.
function jump.read(arguments)
  local found = { unknown = {} }
  if type(arguments) ~= "string" then return nil, { words.show(arguments) } end
  local list, problem = split(arguments)
  if not list then return nil, { words.show(arguments) .. ": " .. problem } end
  local i = 1
  while i <= #list do
    local flag, text = list[i]:match "^(%-%a)(.*)$"
    flag, text = flag or list[i], text or ""
    if text == "" and flag:find(TAKES_VALUE) and list[i + 1] then
      i, text = i + 1, list[i + 1]
    end
    note(found, flag, text)
    i = i + 1
  end
  return found.jump, found.unknown
end

-- One jump host: { name, user, port }, or nil and what is wrong.
local function parse(text)
  local bare = text:match "^%s*(.-)%s*$":gsub("^ssh://", "")
  local user, rest = bare:match "^(.*)@([^@]*)$"
  local name, port, problem = names.split_port(rest or bare)
  local ok = name ~= nil
  if ok then ok, problem = names.check_address(name) end
  if ok and user then ok, problem = names.check_user(user) end
  if not ok then return nil, ("the jump host %s: %s"):format(words.show(text), problem) end
  return { name = name, user = user, port = port }
end

-- Checks a text that names jump hosts. Returns true, or nil and what is wrong.
function jump.check(text)
  if text:find "^," or text:find ",%s*," or text:find ",$" then
    return nil, "an empty name among the jump hosts"
  end
  for item in text:gmatch "[^,]+" do
    local hop, problem = parse(item)
    if not hop then return nil, problem end
  end
  return true
end

local way_to

-- Puts into way how a jump host itself is reached: the first one over its own jump hosts.
local function add_hop(parts, way, hop)
  local known = parts.by_name[hop.name]
  way.names[hop.name] = true
  if known and known.connection ~= "ssh" then
    return nil, ("the jump host %s is not reached by ssh"):format(hop.name)
  end
  if known and known.problem then
    return nil, ("the jump host %s: %s"):format(hop.name, known.problem)
  end
  if known and #way == 0 and known.jump then
    local ok, problem = way_to(parts, way, known)
    if not ok then return nil, problem end
  end
  if #way >= MAX_HOPS then return nil, ("more than %d jump hosts"):format(MAX_HOPS) end
  known = known or { address = hop.name }
  way[#way + 1] = {
    name = hop.name, address = known.address, port = hop.port or known.port,
    user = hop.user or known.user, key = known.key,
    -- Its password is that of its own user.
    host = known.name and not (hop.user and hop.user ~= known.user) and known or nil,
  }
  return true
end

-- Puts the jump hosts of a host into way, in the order in which they are reached. A host that is
-- named among its own, as by a variable of a whole group, is reached over those before it.
function way_to(parts, way, host)
  if way.seen[host.name] then
    return nil, ("the jump hosts go in a circle at %s"):format(host.name)
  end
  way.seen[host.name] = true
  local ok, problem = jump.check(host.jump)
  if not ok then return nil, problem end
  for item in host.jump:gmatch "[^,]+" do
    local hop = parse(item)
    if hop.name == host.name then
      way.cut[host] = true
      return true
    end
    ok, problem = add_hop(parts, way, hop)
    if not ok then return nil, problem end
  end
  return true
end

-- Sets how each host of an inventory is reached: host.hops (a list of { name, address, port, user,
-- key, host (of the inventory, whose password it takes) }, shared by hosts and never changed), or
-- host.problem.
function jump.resolve(parts, warn, step)
  local ways = {} -- by the text that names the jump hosts
  for index, host in ipairs(parts.hosts) do
    step()
    local wanted = host.jump and host.connection == "ssh"
    local way = wanted and ways[host.jump]
    if wanted and (not way or way.names[host.name]) then
      way = { names = {}, seen = {}, cut = {} }
      local ok, problem = way_to(parts, way, host)
      way.problem = not ok and problem or nil
      if problem then warn(index, problem) end
      if not way.cut[host] then ways[host.jump] = way end
    end
    if way and way.problem then
      host.problem = host.problem or way.problem
    elseif way and #way > 0 then
      host.hops = way
    end
  end
end

return jump
