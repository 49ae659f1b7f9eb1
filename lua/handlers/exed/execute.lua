-- SPDX-License-Identifier: MIT
-- /execute: a command on hosts.

local operate = require "exed.operate"

local MOST <const> = 1000000 -- characters; quoted, a command may have 1 MiB (ssh_quote.c)

local FIELDS <const> = operate.fields {
  cmd = { "command", required = true, max = MOST, help = "command, read by sh on each host" },
}

return {
  type = "handler",
  path = "/execute",
  dialect = "exed",
  methods = {
    GET = {
      summary = "run a command on hosts and answer with their records",
      query = FIELDS,
      answers = { [200] = "Answered" },
      changes = true,
      run = function(req) return operate.get(req, "execute", { command = req.query.cmd }) end,
    },
    POST = {
      summary = "a job that runs a command on hosts",
      body = FIELDS,
      answers = { [200] = "Planned", [201] = "Jid" },
      changes = true,
      run = function(req) return operate.post(req, "execute", { command = req.body.cmd }) end,
    },
  },
}
