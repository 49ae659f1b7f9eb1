-- SPDX-License-Identifier: MIT
-- Reads an inventory in Ansible's INI form into a builder:
--   [group]           hosts, one a line: name[:port] [key=value ...], ranges in the name
--   [group:vars]      key=value, one a line
--   [group:children]  names of groups, one a line
-- Hosts before the first section belong to no group. '#' and ';' begin a comment line.

local literal = require "exed.inventory.literal"
local names = require "exed.inventory.names"
local split = require "exed.inventory.split"
local words = require "exed.words"

local KINDS = { "children", "hosts", "vars" }

-- Gives each line of the text with its number, without blanks at both ends.
local function lines(text)
  local number, pos = 0, 1
  return function()
    if pos > #text then return nil end
    local stop = text:find("[\r\n]", pos) or #text + 1
    local line = text:sub(pos, stop - 1)
    pos = stop + (text:find("^\r\n", stop) and 2 or 1)
    number = number + 1
    return number, line:match("^%s*(.-)%s*$")
  end
end

-- A group that a [parent:children] section names may be defined later in the file: its parents
-- wait for it in `pending`.
local function declare(state, group)
  state.declared[group.name] = true
  local entry = state.pending[group.name]
  if not entry then return end
  state.pending[group.name] = nil
  for _, parent in ipairs(entry.parents) do
    state.builder:add_child(parent, group, entry.line)
  end
end

local function begin_section(state, number, line)
  local builder = state.builder
  local name, kind, rest = line:match("^%[([^:%]%s]+):?([^%]%s]*)%]%s*(.*)$")
  if not name or (rest ~= "" and not rest:find("^#")) then return false end
  if kind == "" then kind = "hosts" end
  if kind ~= "hosts" and kind ~= "vars" and kind ~= "children" then
    builder:fail(number, "the section [%s:%s] is of no known kind%s (hosts, vars or children)",
      name, kind, words.hint(kind, KINDS))
  end
  local known = builder.group_by[name]
  state.group, state.kind = known or builder:group(name, number), kind
  if kind == "vars" then
    if not state.vars_line[name] then state.vars_line[name] = number end
  else
    declare(state, state.group)
  end
  return true
end

local function host_line(state, number, line)
  local builder = state.builder
  local found, problem = split(line)
  if not found then builder:fail(number, "cannot read the host line: %s", problem) end
  local list, port = builder:expand(found[1] or "", number)
  local vars = {}
  for i = 2, #found do
    local key, text = found[i]:match("^([^=]*)=(.*)$")
    if not key or key == "" then
      builder:fail(number, "expected key=value after the host name, got %s", words.show(found[i]))
    end
    vars[#vars + 1] = { key, literal(text) }
  end
  for _, name in ipairs(list) do
    local host = builder:add_host(name, state.group, number)
    if port then builder:set(host, "ansible_port", port, number) end
    for _, pair in ipairs(vars) do builder:set(host, pair[1], pair[2], number) end
  end
end

local function vars_line(state, number, line)
  local key, text = line:match("^([^=]-)%s*=%s*(.*)$")
  if not key or key == "" then
    state.builder:fail(number, "expected key=value in [%s:vars], got %s", state.group.name,
      words.show(line))
  end
  state.builder:set(state.group, key, literal(text), number)
end

local function child_line(state, number, line)
  local name, rest = line:match("^([^:%]%s]+)%s*(.*)$")
  if not name or (rest ~= "" and not rest:find("^#")) then
    state.builder:fail(number, "expected the name of a group in [%s:children], got %s",
      state.group.name, words.show(line))
  end
  local child = state.builder.group_by[name]
  if child then return state.builder:add_child(state.group, child, number) end
  local entry = state.pending[name] or { line = number, parents = {} }
  state.pending[name] = entry
  entry.parents[#entry.parents + 1] = state.group
end

local READERS = { hosts = host_line, vars = vars_line, children = child_line }

-- True for a line that opens with an IPv6 address in brackets, which is a host and no section.
local function is_bracketed_host(line)
  local inner = line:match("^%[([%x:.]+)%]")
  return inner ~= nil and names.is_ipv6(inner)
end

-- Every group that was given variables or children must have been defined.
local function check_defined(state)
  local defined = words.keys(state.declared)
  for _, name in ipairs(words.keys(state.pending)) do
    local entry = state.pending[name]
    state.builder:fail(entry.line, "[%s:children] names the group '%s', which is not defined%s",
      entry.parents[1].name, name, words.hint(name, defined))
  end
  for _, name in ipairs(words.keys(state.vars_line)) do
    if not state.declared[name] then
      state.builder:fail(state.vars_line[name],
        "[%s:vars] is for a group that is not defined, add [%s]%s", name, name,
        words.hint(name, defined))
    end
  end
end

-- Reads the text into the builder; raises the builder's error where the text is wrong.
local function read_ini(builder, text)
  local state = {
    builder = builder, group = builder.group_by.ungrouped, kind = "hosts",
    declared = {}, pending = {}, vars_line = {},
  }
  for name in pairs(builder.group_by) do state.declared[name] = true end -- of files before it
  for number, line in lines(text) do
    if line ~= "" and not line:find("^[#;]") then
      builder:step()
      local maybe = line:find("^%[") and not is_bracketed_host(line)
      if not (maybe and begin_section(state, number, line)) then
        if maybe and line:find("%]$") then
          builder:fail(number, "bad section %s: expected [group], [group:vars] or "
            .. "[group:children], without blanks", words.show(line))
        end
        READERS[state.kind](state, number, line)
      end
    end
  end
  check_defined(state)
end

return read_ini
