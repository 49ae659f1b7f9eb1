-- SPDX-License-Identifier: MIT
-- /ping: whether exed can log in to hosts.

local operate = require "exed.operate"

return {
  type = "handler",
  path = "/ping",
  dialect = "exed",
  methods = {
    GET = {
      summary = "ping hosts and answer with their records",
      query = operate.fields {},
      answers = { [200] = "Answered" },
      changes = true,
      run = function(req) return operate.get(req, "ping", {}) end,
    },
    POST = {
      summary = "a job that pings hosts",
      body = operate.fields {},
      answers = { [200] = "Planned", [201] = "Jid" },
      changes = true,
      run = function(req) return operate.post(req, "ping", {}) end,
    },
  },
}
