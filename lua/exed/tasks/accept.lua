-- SPDX-License-Identifier: MIT
-- Whether a task may be run with what it was given: by its declared args, and by its own check of
-- what they say together.
--
--   accept.values(task, opts) -> the args as they were declared | nil, err
--     task: of exed.tasks.registry. Waits, when the task has a check.

local registry = require "exed.tasks.registry"
local secrets = require "exed.tasks.secrets"

local accept = {}

function accept.values(task, opts)
  local values, err = task.checker:check(opts, "json")
  if not values or not task.checks then return values, err end
  local ok, wrong, passing = registry.judge(task.name, task.sources,
    secrets.hide(task.checker, values))
  if ok then return values end
  return nil, { code = passing and "unavailable" or "bad_request", message = wrong }
end

return accept
