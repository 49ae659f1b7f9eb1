-- SPDX-License-Identifier: MIT
-- POST /jobs/JID/resume: let a paused job go on.

local jobs = require "exed.jobs"
local verbs = require "exed.api.verbs"

return verbs.handler("resume", "let a paused job go on", {}, function(req)
  return jobs.tell(req.node, req.params.jid, "resume")
end)
