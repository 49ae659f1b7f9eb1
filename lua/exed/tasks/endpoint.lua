-- SPDX-License-Identifier: MIT
-- What /tasks and /task have in common: a list, a run, the state of a job of a task; and the start
-- of a task for other endpoints.

local accept = require "exed.tasks.accept"
local answer = require "exed.answer"
local jobs = require "exed.jobs"
local json = require "exed.json"
local operate = require "exed.operate"
local rehearse = require "exed.tasks.rehearse"

local endpoint = {}

local BAD <const> = "bad task params"

-- targets is not required here: a body with a jid asks for a job.
local function fields()
  local decl = operate.fields {
    taskname = { "string", min = 1, message = BAD, help = "name of the task" },
    tasktype = { "string", message = BAD, help = "type of the plugin, mostly task" },
    taskopts = {
      "object", default = {}, message = "extra opts for task handler should be an json object",
      help = "args of the task",
    },
    jid = { "string", help = "asks for the state of that job instead" },
  }
  local targets = {}
  for key, value in pairs(decl.targets) do targets[key] = value end
  targets.required, targets.missing, targets.first = nil, nil, nil
  decl.targets = targets
  return decl
end

local function list(req)
  local found = req.node.tasks:list()
  for _, one in ipairs(found) do one.args = one.args and json.array(one.args) end
  return 200, json.array(found)
end

local function state_of(req)
  local job, err = answer.load(req.node, req.body.jid)
  if job then return 200, { jid = job.jid, state = job.state } end
  if err.code == "gone" then
    return nil, { code = "not_found", message = "no such jid " .. req.body.jid }
  end
  return nil, err
end

local function bad(message) return nil, { code = "bad_request", message = message } end

-- A job that runs a task (of the registry) with these opts on the targets of the request, or its
-- dry run; what a handler returns.
function endpoint.start(req, task, opts)
  local body = req.body
  local values, err = accept.values(task, opts)
  if not values then return nil, err end
  if body.dry_run then
    local plan
    plan, err = rehearse.run(req.node, {
      task = task, values = values, targets = body.targets, max_hosts = body.max_hosts,
      who = req.who,
    })
    if not plan then return nil, err end
    return 200, { plan = plan }
  end
  return operate.post_job(req, "task", function(request)
    request.task, request.given, request.values = task, opts, values
    return jobs.submit_task(req.node, request)
  end)
end

local function run(req)
  local body = req.body
  if body.jid then return state_of(req) end
  if not body.targets or #body.targets == 0 then return bad "no target(s) given" end
  if not body.taskname then return bad(BAD) end
  local task, err = req.node.tasks:get(body.taskname)
  if not task then return nil, err end
  if body.tasktype and body.tasktype ~= task.type then
    return nil, { code = "not_found", message = ("there is no task %s of type %s"):format(
      body.taskname, body.tasktype) }
  end
  return endpoint.start(req, task, body.taskopts)
end

-- A handler at that path.
function endpoint.at(path)
  return {
    type = "handler", path = path, dialect = "exed",
    methods = {
      GET = {
        summary = "the tasks that there are", answers = { [200] = "Tasks" }, run = list,
      },
      POST = {
        summary = "a job that runs a task, or the state of one", body = fields(), changes = true,
        answers = { [200] = "Asked", [201] = "Jid" }, run = run,
      },
    },
  }
end

return endpoint
