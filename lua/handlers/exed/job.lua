-- SPDX-License-Identifier: MIT
-- /jobs/JID: one job, its records, and its end as a thing to look at.

local answer = require "exed.answer"
local jobs = require "exed.jobs"
local stream = require "exed.follow.stream"

-- The store's words in those of the API.
local function explain(err, jid)
  if err.code == "gone" then
    return { code = "not_found", message = "no such jid " .. jid }
  elseif err.code == "running" then
    return { code = "bad_request", message = "cannot delete a running job, jid " .. jid }
  end
  return err
end

return {
  type = "handler",
  path = "/jobs/:jid",
  dialect = "exed",
  methods = {
    GET = {
      summary = "a job; with outputs its records, with follow as they come",
      query = {
        outputs = { "boolean", default = false, help = "return_data has the records" },
        follow = { "boolean", default = false, help = "one line for each record, until the end" },
        from = { "integer", min = 0, help = "with follow: what comes after that id" },
        detail = { "boolean", default = false, help = "counts by status, and what runs now" },
      },
      answers = {
        [101] = {},
        [200] = {
          ["application/json"] = "Job", ["application/x-ndjson"] = "Row",
          ["text/event-stream"] = { type = "string" },
        },
        [204] = {},
      },
      socket = true,
      run = function(req)
        local node, query = req.node, req.query
        local jid = req.params.jid
        if query.follow or req.socket then
          local status, made, headers = stream.answer(req, function()
            return answer.load(node, jid)
          end)
          if not status then return nil, explain(made, jid) end
          return status, made, headers
        elseif query.from then
          return nil, { code = "bad_request", message = "from: only with follow=1" }
        end
        local job, err = answer.look(node, jid, query.detail)
        if not job then return nil, explain(err, jid) end
        return 200, function(out) return answer.object(node, job, out, query) end
      end,
    },
    DELETE = {
      summary = "delete a job that has ended",
      answers = { [204] = {} },
      changes = true,
      run = function(req)
        local jid = req.params.jid
        local job, err = answer.load(req.node, jid)
        if not job then return nil, explain(err, jid) end
        local ok
        ok, err = jobs.remove(req.node, jid)
        if not ok then return nil, explain(err, jid) end
        return 204
      end,
    },
  },
}
