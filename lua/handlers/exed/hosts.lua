-- SPDX-License-Identifier: MIT
-- GET /hosts: what the inventory says of hosts. Their variables are not told: anything may be in
-- them.

local answer = require "exed.answer"
local json = require "exed.json"
local words = require "exed.words"

local function show(host)
  return {
    name = host.name, address = host.address, port = host.port, user = host.user,
    connection = host.connection, disabled = host.disabled,
    groups = json.array(words.keys(host.groups)),
  }
end

return {
  type = "handler",
  path = "/hosts",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the hosts that a pattern names, with address and groups",
      query = { pattern = { "string", default = "*", help = "hosts, groups, globs, ranges" } },
      answers = { [200] = "Hosts" },
      run = function(req)
        local hosts, err = req.node.holder.inventory:match(req.query.pattern)
        if not hosts then return nil, err end
        return 200, function(out)
          answer.items(out, hosts, show)
          return true
        end
      end,
    },
  },
}
