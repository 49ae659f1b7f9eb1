-- SPDX-License-Identifier: MIT
-- exed-run NAME --dry-run: runs a task on made-up hosts, where all succeeds, on a clock that jumps
-- to what happens next, and prints its steps. Nothing is touched.

local files = require "exed.tasks.files"
local inventory = require "exed.inventory"
local options = require "exed.cli.options"
local plan_view = require "exed.cli.plan_view"
local registry = require "exed.tasks.registry"
local rehearsal = require "exed.task.rehearsal"
local secrets = require "exed.tasks.secrets"
local targets = require "exed.cli.targets"

-- ---- the plan -----------------------------------------------------------------------------------

-- As POST /tasks with dry_run answers it, made here.
local function plan_here(task, given, values)
  local found = targets.open(given)
  local hosts, unknown = targets.match(found, given[1])
  targets.limit(given, #hosts + #unknown)
  local checker = registry.checker(task.args)
  local checked, err = checker:check(values, "json")
  if not checked then options.refuse("%s", err.message) end
  if task.checks then
    local ok, wrong = files.judge(task.file, secrets.hide(checker, checked))
    if not ok then options.refuse("%s", wrong) end
  end
  local described = {}
  for i, host in ipairs(hosts) do described[i] = inventory.describe(host) end
  local fleet = rehearsal.of { hosts = described, sources = task.file.sources }
  fleet:answer { op = "facter", reply = function(host)
    return { facts = { hostname = host.name } }
  end }
  local result = fleet:run(task.name, { args = values, dry_run = true, who = os.getenv "USER" })
  local steps = {}
  for i, one in ipairs(result.history) do
    steps[i] = one.said and one or {
      at = one.at, host = one.host, op = one.op, what = one.what, step = one.step, path = one.key,
    }
  end
  return {
    state = result.ok and #unknown == 0 and 0 or 2, steps = steps, outcomes = result.outcomes,
    error = result.error and result.error.message or "", no_match = unknown,
  }
end

local function plan_there(node, task, given, values)
  local answer, err = node:ask("POST", "/tasks", {
    targets = given[1], taskname = task.name, taskopts = next(values) and values or nil,
    dry_run = true, max_hosts = given["max-hosts"],
  })
  if answer then return answer.plan end
  err.exit = err.away and 2 or 1
  error(err, 0)
end

-- task: what its file declares, and file when it is to be done here; given: the options; values:
-- of its args; node: the exed that is asked, or nil.
return function(task, given, values, node)
  local plan = node and plan_there(node, task, given, values) or plan_here(task, given, values)
  return plan_view(plan, given)
end
