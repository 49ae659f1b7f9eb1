-- SPDX-License-Identifier: MIT
-- GET /nodes: who shares the job store, and what they run.

local json = require "exed.json"

return {
  type = "handler",
  path = "/nodes",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the nodes that share the job store",
      answers = { [200] = "Nodes" },
      run = function(req)
        local list, err = req.node.membership:list()
        if not list then return nil, err end
        local nodes = {}
        for i, other in ipairs(list) do
          nodes[i] = {
            id = other.id, version = other.version, beat = tonumber(other.beat),
            incarnation = tonumber(other.incarnation), slices = tonumber(other.running),
            silent = req.node.membership:silence(other.id), this = other.id == req.node.id,
          }
        end
        return 200, json.array(nodes)
      end,
    },
  },
}
