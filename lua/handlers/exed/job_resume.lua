-- SPDX-License-Identifier: MIT
-- POST /jobs/JID/resume: let a paused job go on.

local jobs = require "exed.jobs"
local refit = require "exed.tasks.refit"
local verbs = require "exed.api.verbs"

return verbs.handler("resume", "let a paused job go on", {
  source = {
    "choice", of = { "pinned", "current" }, default = "pinned",
    help = "of a task: the source that it began with, or the one in force now, when that fits",
  },
}, function(req)
  if req.body.source == "current" then return refit.resume(req.node, req.params.jid) end
  return jobs.tell(req.node, req.params.jid, "resume")
end)
