-- SPDX-License-Identifier: MIT
-- /facter: what hosts are: system, memory, disks, network.

local operate = require "exed.operate"

return {
  type = "handler",
  path = "/facter",
  dialect = "exed",
  methods = {
    GET = {
      summary = "gather the facts of hosts and answer with their records",
      query = operate.fields {},
      answers = { [200] = "Answered" },
      changes = true,
      run = function(req) return operate.get(req, "facter", {}) end,
    },
    POST = {
      summary = "a job that gathers the facts of hosts",
      body = operate.fields {},
      answers = { [200] = "Planned", [201] = "Jid" },
      changes = true,
      run = function(req) return operate.post(req, "facter", {}) end,
    },
  },
}
