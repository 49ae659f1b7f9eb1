-- SPDX-License-Identifier: MIT
-- POST /jobs/JID/cancel: stop a job.

local answer = require "exed.answer"
local jobs = require "exed.jobs"

return {
  type = "handler",
  path = "/jobs/:jid/cancel",
  dialect = "exed",
  methods = {
    POST = {
      summary = "stop a job: kill what runs, skip what has not started",
      body = {},
      answers = { [200] = "Told" },
      changes = true,
      run = function(req)
        local node, jid = req.node, req.params.jid
        local job, err = answer.load(node, jid)
        local found
        if job then found, err = jobs.cancel(node, jid, "cancelled") end
        if found then return 200, { jid = found.jid, state = found.state } end
        if err.code == "gone" then
          return nil, { code = "not_found", message = "no such jid " .. jid }
        elseif err.code == "ended" then
          return nil, { code = "ended", message = "the job has ended, jid " .. jid }
        end
        return nil, err
      end,
    },
  },
}
