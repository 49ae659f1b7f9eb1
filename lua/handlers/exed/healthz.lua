-- SPDX-License-Identifier: MIT
-- GET /healthz: whether this node can take work, and if not, why.

local function store_health(node)
  local err = node:store_error()
  return { state = err and "away" or "up", durability = node:durability(), error = err }
end

local function inventory_health(holder)
  return {
    hosts = #holder.inventory.hosts, error = holder.error and holder.error.message,
  }
end

return {
  type = "handler",
  path = "/healthz",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the health of this node",
      run = function(req)
        local node = req.node
        local store = store_health(node)
        return store.error and 503 or 200, {
          status = store.error and "away" or "ok",
          version = node.version,
          node = { id = node.id, incarnation = node.incarnation, role = node.config.runner.role },
          store = store,
          inventory = inventory_health(node.holder),
        }
      end,
    },
  },
}
