-- SPDX-License-Identifier: MIT
-- GET /hosts: what the inventory says of hosts, without its secrets.

local inventory = require "exed.inventory"
local json = require "exed.json"
local timer = require "exed.timer"

local STEP <const> = 200 -- hosts between two turns of the loop

return {
  type = "handler",
  path = "/hosts",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the hosts that a pattern names, with their groups and variables",
      query = { pattern = { "string", default = "*", help = "hosts, groups, globs, ranges" } },
      answers = { [200] = "Hosts" },
      run = function(req)
        local hosts, err = req.node.holder.inventory:match(req.query.pattern)
        if not hosts then return nil, err end
        return 200, function(out)
          out:write "["
          for i, host in ipairs(hosts) do
            out:write(i > 1 and "," or "", json.encode(inventory.describe(host)))
            if i % STEP == 0 then timer.sleep(0) end
          end
          out:write "]"
          return true
        end
      end,
    },
  },
}
