-- SPDX-License-Identifier: MIT
-- GET /leases: which jobs may change which hosts.

local json = require "exed.json"

return {
  type = "handler",
  path = "/leases",
  dialect = "exed",
  methods = {
    GET = {
      summary = "hosts that jobs hold, and the jobs that hold them",
      answers = { [200] = "Leases" },
      run = function(req)
        return 200, function(out)
          local separator = "["
          local ok, err = req.node.store:leases(function(lease)
            out:write(separator, json.encode(lease))
            separator = ","
          end)
          if not ok then return nil, err end
          out:write(separator == "[" and "[]" or "]")
          return true
        end
      end,
    },
  },
}
