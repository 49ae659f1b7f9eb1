-- SPDX-License-Identifier: MIT
-- POST /jobs/JID/pause: start no more hosts of a job, or effects of a task; what runs ends.

local jobs = require "exed.jobs"
local verbs = require "exed.api.verbs"

return verbs.handler("pause", "start no more hosts of a job; those that run end", {}, function(req)
  return jobs.tell(req.node, req.params.jid, "pause")
end)
