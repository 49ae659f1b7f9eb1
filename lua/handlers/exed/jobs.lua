-- SPDX-License-Identifier: MIT
-- /jobs: all jobs.

local answer = require "exed.answer"

return {
  type = "handler",
  path = "/jobs",
  dialect = "exed",
  methods = {
    GET = {
      summary = "jids of all jobs, newest last; with detail the job objects",
      query = {
        detail = { "boolean", default = false, help = "job objects instead of jids" },
        all = { "boolean", default = false, help = "also the jobs of GET requests" },
      },
      answers = { [200] = "Jobs" },
      run = function(req)
        local jids, err = req.node.store:list(req.query.all)
        if not jids then return nil, err end
        return 200, function(out)
          if req.query.detail then return answer.list(req.node, jids, out) end
          answer.names(out, jids)
          return true
        end
      end,
    },
    DELETE = {
      summary = "asks for a jid",
      answers = {},
      changes = true,
      run = function() return nil, { code = "bad_request", message = "no jid given" } end,
    },
  },
}
