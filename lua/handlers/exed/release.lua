-- SPDX-License-Identifier: MIT
-- /release: an alias of the task code_release, with the names and messages of EXEd.

local endpoint = require "exed.tasks.endpoint"
local json = require "exed.json"
local operate = require "exed.operate"

local TASK <const> = "code_release"
local APP <const>, RELEASE <const> = "bad app info params", "bad release params"

local FIELDS <const> = operate.fields {
  appname = { "string", required = true, min = 1, message = APP, help = "name of the app" },
  apptype = {
    "string", required = true, min = 1, message = APP, help = "git, archive or directory",
  },
  revision = {
    "string", min = 1, message = APP,
    help = "what to put live; ? asks which revision is; needed but for a rollback",
  },
  rollback = { "boolean", default = false, message = RELEASE, help = "back to the one before" },
  extra_opts = {
    "object", default = {}, message = "extra opts for release handler should be an json object",
    help = "the other args of the task code_release",
  },
}
local OWN <const> = { "appname", "apptype", "revision", "rollback" }

local function bad(message) return nil, { code = "bad_request", message = message } end

-- EXEd's own words where the task's check has others.
local function check_revision(opts)
  if not opts.revision and not opts.rollback then return bad(APP) end
  if opts.revision == "?" and opts.rollback then return bad(RELEASE) end
  return true
end

-- The args of the task.
local function to_opts(body)
  local opts = {}
  for name, value in pairs(body.extra_opts) do opts[name] = value end
  for _, name in ipairs(OWN) do
    if opts[name] ~= nil then
      return bad(("extra_opts: '%s' is a field of the request itself"):format(name))
    end
    opts[name] = body[name]
  end
  local ok, err = check_revision(opts)
  if not ok then return nil, err end
  return opts
end

local function run(req)
  local opts, err = to_opts(req.body)
  if not opts then return nil, err end
  local task
  task, err = req.node.tasks:get(TASK)
  if not task then return nil, err end
  return endpoint.start(req, task, opts)
end

-- What EXEd called its release handlers: one for each type of app.
local function list(req)
  local task = req.node.tasks:get(TASK)
  local found = {}
  for _, field in ipairs(task and task.args or {}) do
    if field.name == "apptype" then
      for i, kind in ipairs(field.of or {}) do found[i] = { type = kind, name = TASK } end
    end
  end
  return 200, json.array(found)
end

return {
  type = "handler", path = "/release", dialect = "exed",
  methods = {
    GET = {
      summary = "the types of apps that can be released", answers = { [200] = "Tasks" }, run = list,
    },
    POST = {
      summary = "a job that puts a revision of an app live", body = FIELDS, changes = true,
      answers = { [200] = "Planned", [201] = "Jid" }, run = run,
    },
  },
}
