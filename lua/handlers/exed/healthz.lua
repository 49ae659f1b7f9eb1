-- SPDX-License-Identifier: MIT
-- GET /healthz: whether this node can take work, and what is not as it should be. 503 only when
-- it can take none; what is degraded leaves it at 200, or a load balancer would stop a node that
-- works.

local json = require "exed.json"

local MOST <const> = 20 -- plugins that are told of
local KINDS <const> = { "executor", "handler" }

local function store_health(node)
  local err = node:store_error()
  return { state = err and "away" or "up", durability = node:durability(), error = err }
end

local function inventory_health(holder)
  return {
    hosts = #holder.inventory.hosts, error = holder.error and holder.error.message,
  }
end

local function add_broken(found, list)
  for _, file in ipairs(list) do
    if file.error and #found < MOST then
      local told = file.error:find(file.path, 1, true)
      found[#found + 1] = "plugin " .. (told and "" or file.path .. ": ") .. file.error
    end
  end
end

-- What works, and not as it should: texts for people.
local function degraded_of(node, store, inventory)
  local found = {}
  if not store.error and store.durability ~= "full" then
    found[#found + 1] = "durability: " .. tostring(store.durability)
  end
  if inventory.error then
    found[#found + 1] = ("inventory, the last good one is in force: %s"):format(inventory.error)
  end
  for _, kind in ipairs(KINDS) do add_broken(found, node.plugins:list(kind)) end
  add_broken(found, node.tasks:list())
  return json.array(found)
end

return {
  type = "handler",
  path = "/healthz",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the health of this node",
      answers = { [200] = "Health", [503] = "Health" },
      run = function(req)
        local node = req.node
        local store, inventory = store_health(node), inventory_health(node.holder)
        local degraded = degraded_of(node, store, inventory)
        return store.error and 503 or 200, {
          status = store.error and "away" or #degraded > 0 and "degraded" or "ok",
          degraded = degraded,
          version = node.version,
          node = { id = node.id, incarnation = node.incarnation, role = node.config.runner.role },
          store = store,
          inventory = inventory,
        }
      end,
    },
  },
}
