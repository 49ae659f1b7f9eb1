-- SPDX-License-Identifier: MIT
-- GET /target: the hosts that a pattern names.

local answer = require "exed.answer"

return {
  type = "handler",
  path = "/target",
  dialect = "exed",
  methods = {
    GET = {
      summary = "names of the hosts that a pattern names",
      query = { pattern = { "string", default = "*", help = "hosts, groups, globs, ranges" } },
      answers = { [200] = "Names" },
      run = function(req)
        local hosts, err = req.node.holder.inventory:match(req.query.pattern)
        if not hosts then return nil, err end
        local names = {}
        for i, host in ipairs(hosts) do names[i] = host.name end
        return 200, function(out)
          answer.names(out, names)
          return true
        end
      end,
    },
  },
}
