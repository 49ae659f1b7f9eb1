-- SPDX-License-Identifier: MIT
-- POST /jobs/JID/approve: answer the question that a task waits with.

local access = require "exed.access"
local answer = require "exed.answer"
local jobs = require "exed.jobs"
local json = require "exed.json"
local verbs = require "exed.api.verbs"

local MAX_NOTE <const> = 4000 -- bytes

-- Whether the question is for that person. by: names of tokens with commas; "group:NAME" is each
-- token whose name begins with "NAME/", or is NAME. Over exed.sock it is who may do anything here.
local function is_for(by, who)
  if type(by) ~= "string" or who == "local" then return true end
  if not access.asks() then return false end
  for name in by:gmatch "[^,%s]+" do
    local group = name:match "^group:(.+)$"
    if who == (group or name) then return true end
    if group and who:sub(1, #group + 1) == group .. "/" then return true end
  end
  return false
end

return verbs.handler("approve", "answer the question that a task waits with", {
  approve = { "boolean", required = true, help = "yes or no" },
  note = { "string", default = "", max = MAX_NOTE, help = "what the task is told besides" },
}, function(req)
  local node, jid = req.node, req.params.jid
  local job, err = answer.load(node, jid)
  if not job then return nil, err end
  local question = json.decode(job.fields.waiting or "") or {}
  if not is_for(question.by, req.who) then
    return nil, {
      code = "forbidden", message = ("the question is for %s, not for %s"):format(question.by,
        req.who),
    }
  end
  return jobs.tell(node, jid, "approve", {
    approved = req.body.approve, who = req.who, note = req.body.note,
  }, question.n)
end)
