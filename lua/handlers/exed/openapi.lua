-- SPDX-License-Identifier: MIT
-- GET /openapi.json: the API's document, with what the tasks of this node take.

local openapi = require "exed.api.openapi"

return {
  type = "handler",
  path = "/openapi.json",
  dialect = "exed",
  methods = {
    GET = {
      summary = "this document",
      answers = { [200] = "Document" },
      run = function(req)
        return 200, openapi.document {
          handlers = req.node.plugins.handlers, tasks = req.node.tasks:list(),
          version = req.node.version,
        }
      end,
    },
  },
}
