-- SPDX-License-Identifier: MIT
-- Reads an inventory in Ansible's YAML form into a builder: the keys at the top are groups, a
-- group has `hosts`, `vars` and `children`, each a mapping.

local tree = require "exed.inventory.tree"
local value = require "exed.inventory.value"
local words = require "exed.words"

local MAX_VISITS = 400000 -- groups and hosts read, aliases counted each time
local SECTIONS = { "children", "hosts", "vars" }

local function is_null(node)
  return node.kind == "scalar" and node.value == value.null
end

local function kind_of(node)
  if node.kind == "map" then return "a mapping" end
  if node.kind == "list" then return "a list" end
  return words.show(node.value)
end

local function visit(state, line)
  state.visits = state.visits + 1
  state.builder:step()
  if state.visits > MAX_VISITS then
    state.builder:fail(line, "more than %d groups and hosts, which is the limit", MAX_VISITS)
  end
end

-- Sets the variables of a mapping on a group or a host.
local function set_vars(state, owner, node)
  for _, pair in ipairs(node.pairs) do
    local key, found = pair[1], pair[2]
    if found.vault then
      state.builder:block(owner, key.value,
        "is encrypted by ansible-vault and left out, exed has no key for it", found.line)
    else
      state.builder:set(owner, key.value, tree.value(found), key.line)
    end
  end
end

local function read_host(state, group, key, node)
  local builder, text = state.builder, key.value
  if type(text) ~= "string" then
    builder:fail(key.line, "a host name must be text, got %s: put it in quotes", words.show(text))
  end
  local empty = node.kind == "scalar"
    and (node.value == value.null or node.value == "" or node.value == false)
  if node.kind ~= "map" and not empty then
    builder:fail(node.line, "the variables of the host '%s' must be a mapping, got %s", text,
      kind_of(node))
  end
  local list, port = builder:expand(text, key.line)
  for _, name in ipairs(list) do
    local host = builder:add_host(name, group, key.line)
    if port then builder:set(host, "ansible_port", port, key.line) end
    if node.kind == "map" then set_vars(state, host, node) end
  end
end

-- A section as a list of pairs: a mapping's own, one for a single name, none when it is empty.
local function pairs_of(state, section, node, group)
  if node.kind == "map" then return node.pairs end
  if is_null(node) then return {} end
  if node.kind == "scalar" and type(node.value) == "string" then
    local none = { kind = "scalar", line = node.line, value = value.null }
    return { { node, none } }
  end
  state.builder:fail(node.line, "'%s' of the group '%s' must be a mapping (each name followed by "
    .. "':'), got %s", section, group.name, kind_of(node))
end

local read_group

local function read_section(state, group, section, node)
  if section == "vars" then
    if node.kind == "map" then return set_vars(state, group, node) end
    if is_null(node) then return end
    state.builder:fail(node.line, "'vars' of the group '%s' must be a mapping, got %s", group.name,
      kind_of(node))
  end
  for _, pair in ipairs(pairs_of(state, section, node, group)) do
    visit(state, pair[1].line)
    if section == "hosts" then
      read_host(state, group, pair[1], pair[2])
    else
      local child = read_group(state, pair[1], pair[2])
      state.builder:add_child(group, child, pair[1].line)
    end
  end
end

function read_group(state, key, node)
  local builder, name = state.builder, key.value
  if type(name) ~= "string" then
    builder:fail(key.line, "a group name must be text, got %s: put it in quotes", words.show(name))
  end
  if node.kind ~= "map" and not is_null(node) then
    builder:fail(node.line, "the group '%s' must be a mapping with hosts, vars or children, got %s",
      name, kind_of(node))
  end
  local group = builder:group(name, key.line)
  for _, pair in ipairs(node.pairs or {}) do
    local section = pair[1].value
    if section == "hosts" or section == "vars" or section == "children" then
      read_section(state, group, section, pair[2])
    else
      builder:warn(pair[1].line, "%s in the group '%s' is left out%s (a group has hosts, vars and "
        .. "children)", words.show(section), name, words.hint(section, SECTIONS))
    end
  end
  return group
end

local function root_of(builder, text)
  return tree.read(text, {
    fail = function(line, ...) builder:fail(line, ...) end,
    warn = function(line, ...) builder:warn(line, ...) end,
    step = function() builder:step() end,
  })
end

local yaml = {}

-- Reads the text of an inventory into the builder; raises the builder's error where it is wrong.
function yaml.inventory(builder, text)
  local root = root_of(builder, text)
  if not root or is_null(root) then return end
  if root.kind ~= "map" then
    builder:fail(root.line, "an inventory in YAML is a mapping of groups, such as 'all:', got %s",
      kind_of(root))
  end
  local state = { builder = builder, visits = 0 }
  for _, pair in ipairs(root.pairs) do
    if pair[1].value == "plugin" then
      builder:fail(pair[1].line,
        "this is the configuration of an inventory plugin, not an inventory")
    end
    read_group(state, pair[1], pair[2])
  end
end

-- Reads the text of a file of variables for a group or host (`owner`).
function yaml.vars(builder, owner, text)
  local root = root_of(builder, text)
  if not root or is_null(root) then return end
  if root.kind ~= "map" then
    builder:fail(root.line, "a file of variables is a mapping, such as 'name: value', got %s",
      kind_of(root))
  end
  set_vars({ builder = builder, visits = 0 }, owner, root)
end

return yaml
