-- SPDX-License-Identifier: MIT
-- /deploy: a role on hosts. What a role, its parts and its variables are, the executor knows.

local json = require "exed.json"
local operate = require "exed.operate"

local ROLE <const> = "role should be string types"
local PARTIAL <const> = "partial should be string list or omitted"

local FIELDS <const> = operate.fields {
  role = { "string", required = true, message = ROLE, missing = ROLE, help = "the role to deploy" },
  partial = {
    "list", of = "string", message = PARTIAL, help = "only what has one of these tags",
  },
  extra_vars = {
    "object", message = "extra vars should be an json object or omitted",
    help = "variables of the role",
  },
}

return {
  type = "handler",
  path = "/deploy",
  dialect = "exed",
  methods = {
    POST = {
      summary = "a job that deploys a role on hosts",
      body = FIELDS,
      answers = { [200] = "Planned", [201] = "Jid" },
      changes = true,
      run = function(req)
        local body = req.body
        -- Elsewhere a list may be a text with commas; here it never was.
        if type(req.document.partial) == "string" then
          return nil, { code = "bad_request", message = PARTIAL }
        end
        return operate.post(req, "deploy", {
          role = body.role, extra_vars = body.extra_vars or {},
          partial = body.partial and json.array(body.partial) or json.null,
        })
      end,
    },
  },
}
