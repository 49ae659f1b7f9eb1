-- SPDX-License-Identifier: MIT
-- GET /metrics: what this node counts, for Prometheus.

local numbers = require "exed.api.numbers"

return {
  type = "handler",
  path = "/metrics",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the numbers of this node, in Prometheus' text format",
      answers = { [200] = { ["text/plain"] = { type = "string" } } },
      run = function(req)
        return 200, function(out)
          numbers.write(req.node, out)
          return true
        end, { ["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8" }
      end,
    },
  },
}
