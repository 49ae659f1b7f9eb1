-- SPDX-License-Identifier: MIT
-- Reads YAML (and so JSON) into nodes that keep the order of keys and the line of each part,
-- which the usual loader does not. A node is
--   { kind = "map", line, pairs = { { key node, value node }, ... } }
--   { kind = "list", line, items = { node, ... } }
--   { kind = "scalar", line, value = what it stands for }
-- An alias is the very node that its anchor stands on.

local scalar = require "exed.inventory.scalar"
local value = require "exed.inventory.value"
local words = require "exed.words"
local yaml = require "yaml"

local tree = {}

local MAX_DEPTH = 64 -- nodes within nodes
local TAG = "^tag:yaml%.org,2002:"

local TAGGED = {
  str = function(text) return text end,
  null = function() return value.null end,
  int = function(text) return math.tointeger(scalar(text)) end,
  float = function(text) return tonumber(scalar(text)) end,
  bool = function(text)
    local found = scalar(text)
    if type(found) == "boolean" then return found end
    return nil
  end,
}

local function scalar_node(state, event, line)
  local tag = event.tag
  if not tag then
    local plain = event.style == "PLAIN"
    return { kind = "scalar", line = line, value = plain and scalar(event.value) or event.value }
  end
  if tag == "!" or tag == "!unsafe" then
    return { kind = "scalar", line = line, value = event.value }
  end
  if tag == "!vault" or tag == "!vault-encrypted" then
    return { kind = "scalar", line = line, value = value.null, vault = true }
  end
  local read = TAGGED[tag:gsub(TAG, "")]
  if not read then state.fail(line, "the YAML tag %s is not known", words.show(tag)) end
  local found = read(event.value)
  if found == nil then
    state.fail(line, "%s is no value for the YAML tag %s", words.show(event.value), words.show(tag))
  end
  return { kind = "scalar", line = line, value = found }
end

local read_node

local function read_list(state, node, depth)
  node.items = {}
  while true do
    local event = state.next()
    if event.type == "SEQUENCE_END" then return end
    node.items[#node.items + 1] = read_node(state, event, depth + 1)
  end
end

-- Adds what `<<: *other` merges in; keys that the map itself has win over these.
local function merge_in(state, node, source, line)
  if source.kind == "list" then
    for _, item in ipairs(source.items) do merge_in(state, node, item, line) end
    return
  end
  if source.kind ~= "map" then
    state.fail(line, "'<<' merges a mapping or a list of mappings")
  end
  for _, pair in ipairs(source.pairs) do
    local key = pair[1].value
    if not node.merged[key] then
      node.merged[key] = true
      node.inherited[#node.inherited + 1] = pair
    end
  end
end

local function add_pair(state, node, key, found)
  local name = key.value
  if key.kind ~= "scalar" or name ~= name then
    state.fail(key.line, "a key must be a single value, not a list or mapping")
  end
  local place = node.place[name]
  if place then
    state.warn(key.line, "the key %s is there twice in one mapping, the last one counts",
      words.show(name))
    node.pairs[place] = { key, found }
    return
  end
  node.pairs[#node.pairs + 1] = { key, found }
  node.place[name] = #node.pairs
end

local function read_map(state, node, depth)
  node.pairs, node.place, node.merged, node.inherited = {}, {}, {}, {}
  while true do
    local event = state.next()
    if event.type == "MAPPING_END" then break end
    local key = read_node(state, event, depth + 1)
    local found = read_node(state, state.next(), depth + 1)
    local merges = event.type == "SCALAR" and event.style == "PLAIN" and event.value == "<<"
    if merges then merge_in(state, node, found, key.line) else add_pair(state, node, key, found) end
  end
  local own = node.pairs
  if #node.inherited > 0 then
    node.pairs = {}
    for _, pair in ipairs(node.inherited) do
      local place = node.place[pair[1].value]
      if place then own[place][3] = true end
      node.pairs[#node.pairs + 1] = place and own[place] or pair
    end
    for _, pair in ipairs(own) do
      if not pair[3] then node.pairs[#node.pairs + 1] = pair end
    end
  end
  node.place, node.merged, node.inherited = nil, nil, nil
end

function read_node(state, event, depth)
  local line = event.start_mark.line + 1
  state.step()
  if depth > MAX_DEPTH then
    state.fail(line, "more than %d levels of nesting", MAX_DEPTH)
  end
  if event.type == "ALIAS" then
    local node = state.anchors[event.anchor]
    if not node then state.fail(line, "the alias *%s has no anchor before it", event.anchor) end
    if node.open then state.fail(line, "the alias *%s is inside itself", event.anchor) end
    return node
  end
  if event.type == "SCALAR" then
    local node = scalar_node(state, event, line)
    if event.anchor then state.anchors[event.anchor] = node end
    return node
  end
  local is_map = event.type == "MAPPING_START"
  local node = { kind = is_map and "map" or "list", line = line, open = true }
  if event.anchor then state.anchors[event.anchor] = node end
  if is_map then read_map(state, node, depth) else read_list(state, node, depth) end
  node.open = nil
  return node
end

-- The parser's own complaint about a source as line and text.
local function complaint(problem, source)
  local text = tostring(problem):gsub("\n.*", "")
  local line = tonumber(text:match "line: (%d+)")
  text = text:gsub(" at document: .*$", "")
  local number = 0
  for found in source:gmatch "([^\n]*)\n?" do
    number = number + 1
    if number == line and found:find "^%s*\t" then
      return line, text .. " (indentation is made of spaces, never of tabs)"
    end
    if not line or number >= line then break end
  end
  return line, text
end

-- Reads one document. reader: fail(line, format, ...) that raises, warn(line, format, ...),
-- step(). Returns the root node, or nil when there is none.
function tree.read(text, reader)
  local iterate = yaml.parser(text)
  local state = { anchors = {}, fail = reader.fail, warn = reader.warn, step = reader.step }
  function state.next()
    local ok, event = pcall(iterate)
    if not ok then
      local line, problem = complaint(event, text)
      reader.fail(line, "this is not YAML: %s", problem)
    end
    return event
  end
  local event = state.next()
  while event and (event.type == "STREAM_START" or event.type == "DOCUMENT_START") do
    event = state.next()
  end
  if not event or event.type == "STREAM_END" then return nil end
  local root = read_node(state, event, 1)
  state.next()
  event = state.next()
  if event and event.type == "DOCUMENT_START" then
    reader.fail(event.start_mark.line + 1, "a second YAML document; an inventory is one document")
  end
  return root
end

-- The plain Lua value of a node: a table for a map, a marked list, a scalar's value.
function tree.value(node)
  if node.kind == "scalar" then return node.value end
  if node.plain then return node.plain end
  local plain = node.kind == "list" and value.array {} or {}
  node.plain = plain
  if node.kind == "list" then
    for i, item in ipairs(node.items) do plain[i] = tree.value(item) end
  else
    for _, pair in ipairs(node.pairs) do plain[pair[1].value] = tree.value(pair[2]) end
  end
  return plain
end

return tree
