-- SPDX-License-Identifier: MIT
-- POST /jobs/JID/rerun: run an ended job once more, as a new job.

local answer = require "exed.answer"
local jobs = require "exed.jobs"
local operate = require "exed.operate"
local rehearse = require "exed.tasks.rehearse"
local rerun = require "exed.rerun"
local verbs = require "exed.api.verbs"

-- What it would do, and nothing is done.
local function preview(req, request)
  if not request.task then return operate.preview(req, request) end
  local plan, err = rehearse.run(req.node, request)
  if not plan then return nil, err end
  return 200, { plan = plan }
end

local function submit(req, request)
  local make = request.task and jobs.submit_task or jobs.submit
  return make(req.node, request)
end

local function run(req)
  local node, jid, body = req.node, req.params.jid, req.body
  local job, err = answer.load(node, jid)
  if not job then return nil, verbs.explain(err, jid) end
  local request
  request, err = rerun.request(node, job, body.only)
  if not request then return nil, err end
  request.who, request.max_hosts = req.who, body.max_hosts
  if body.dry_run then return preview(req, request) end
  return operate.create(req, request, function(one) return submit(req, one) end)
end

return {
  type = "handler",
  path = "/jobs/:jid/rerun",
  dialect = "exed",
  methods = {
    POST = {
      summary = "run an ended job once more, as a new job: on its failed hosts, or on all",
      body = {
        only = {
          "choice", of = { "failed", "all" }, default = "failed",
          help = "failed: hosts that are FAILED, UNREACHABLE or SKIPED; all: every target",
        },
        max_hosts = operate.OPTIONS.max_hosts,
        dry_run = operate.OPTIONS.dry_run,
      },
      answers = { [200] = "Planned", [201] = "Jid" },
      changes = true,
      run = run,
    },
  },
}
