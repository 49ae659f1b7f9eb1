-- SPDX-License-Identifier: MIT
-- /service: starts, stops, restarts or reloads a service of hosts.

local operate = require "exed.operate"
local service = require "exed.ops.service"
local words = require "exed.words"

local FIELDS <const> = operate.fields {
  name = {
    "string", required = true, match = service.NAME, max = service.NAME_BYTES,
    message = service.BAD, help = "name of the service",
  },
  state = {
    "choice", required = true, of = words.keys(service.STATES), message = service.BAD,
    help = "0 or started, 1 or stopped, 2 or restarted, reloaded",
  },
  graceful = { "boolean", default = false, help = "reload when the state is restarted" },
}

local function args_of(values)
  return service.args(values.name, values.state, values.graceful)
end

return {
  type = "handler",
  path = "/service",
  dialect = "exed",
  methods = {
    GET = {
      summary = "bring a service of hosts into a state and answer with their records",
      query = FIELDS,
      answers = { [200] = "Answered" },
      changes = true,
      run = function(req) return operate.get(req, "service", args_of(req.query)) end,
    },
    POST = {
      summary = "a job that brings a service of hosts into a state",
      body = FIELDS,
      answers = { [200] = "Planned", [201] = "Jid" },
      changes = true,
      run = function(req) return operate.post(req, "service", args_of(req.body)) end,
    },
  },
}
