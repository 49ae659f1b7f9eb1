-- SPDX-License-Identifier: MIT
-- What a job is pinned to: the task's source, the modules that it may require, exed's own modules
-- for tasks, and its hosts' inventory variables, as they were when the job was accepted. Each is
-- kept in the store by its hash; the job's hash has the list.

local in_turns = require "exed.in_turns"
local json = require "exed.json"
local process = require "exed.tasks.process"
local text = require "exed.text"

local pins = {}

-- Kept longer than any job may be: a task runs for days at most, and is kept for [store] ttl.
local function keep_seconds(node) return math.floor(2 * node.config.store.ttl + 30 * 86400) end

-- What the store has already is not sent again.
local function put(node, what, sha)
  sha = sha or text.sha256(what)
  local ok, err = node.store:call("source_keep", sha, keep_seconds(node))
  if ok == 0 then ok, err = node.store:call("source_put", sha, what, keep_seconds(node)) end
  if not ok then return nil, err end
  return sha
end

local function get(node, sha)
  local found, err = node.store:insist("source_get", sha)
  if not found then return nil, err end
  if found == "" then
    return nil, { code = "gone", message = "the store has lost a source of this task: " .. sha }
  end
  return found
end

-- Keeps a text with a job: pin(sha) answers with the checksum of the one that the job has already.
-- Returns that text, or nil, err.
function pins.keep(node, what, pin)
  local sha, err = put(node, what)
  if not sha then return nil, err end
  local first
  first, err = pin(sha)
  if not first then return nil, err end
  return first == sha and what or get(node, first)
end

-- What the inventory says of the hosts of a job, for the task: JSON. Secrets are not among it.
local function describe_hosts(inventory, names, known)
  return in_turns.json(known, function(i)
    local host = inventory.by_name[names[i]]
    local one = host and inventory.describe(host)
      or { address = names[i], groups = json.array {}, vars = {} }
    return { name = names[i], address = one.address, groups = one.groups, vars = one.vars }
  end)
end

-- Stores the pins. file: of the plugins (sources: name -> { path, text }). Returns the text for the
-- job's hash, or nil, err.
function pins.make(node, file, names, known)
  local kept, err = { protocol = pins.PROTOCOL }
  kept.modules, err = put(node, process.modules())
  if not kept.modules then return nil, err end
  kept.sources, err = put(node, json.encode(file.sources))
  if not kept.sources then return nil, err end
  kept.hosts, err = put(node, describe_hosts(node.holder.inventory, names, known))
  if not kept.hosts then return nil, err end
  return json.encode(kept)
end

-- The same pins with the sources of another version of the plugin.
function pins.change(node, kept, file)
  local list = json.decode(kept)
  local err
  list.sources, err = put(node, json.encode(file.sources))
  if not list.sources then return nil, err end
  return json.encode(list)
end

-- Of the effects between a task and its node; a job of another one is left to other nodes.
pins.PROTOCOL = 1

-- A seed for chance that is the same for each run of the job: of the first digits of its jid.
function pins.seed(jid) return tonumber("0x" .. jid:gsub("-", ""):sub(1, 15)) end

-- Mostly they are those of this node, as they are.
local function load_modules(node, wanted)
  local own, sha = process.modules()
  if sha == wanted then return own end
  return get(node, wanted)
end

-- Reads them back: { protocol, modules, sources, hosts }, the last three JSON; or nil, err.
function pins.load(node, kept)
  local list = json.decode(kept or "")
  if not list then return nil, { code = "invalid", message = "the job's pins cannot be read" } end
  local modules, err = load_modules(node, list.modules)
  if not modules then return nil, err end
  local found = { protocol = list.protocol, modules = modules }
  for _, key in ipairs { "sources", "hosts" } do
    found[key], err = get(node, list[key])
    if not found[key] then return nil, err end
  end
  return found
end

return pins
