-- SPDX-License-Identifier: MIT
-- Runs a job once more: the same operation or task with the same args, on those of its hosts that
-- did not do well, or on all. The new job's parent is the old one.
--
--   rerun.request(node, job, only) -> request | nil, err     for exed.jobs, of an ended job
--     job: of exed.answer; only: "failed" or "all"; request.task is set when it is a task

local accept = require "exed.tasks.accept"
local json = require "exed.json"
local secrets = require "exed.tasks.secrets"
local timer = require "exed.timer"

local rerun = {}

local RUNNING <const> = 1
local PAGE <const>, PAGE_BYTES <const> = 1000, 1 << 20 -- of the job's rows at once
-- What counts as done badly: SKIPED, FAILED, UNREACHABLE. NO MATCH would be one again.
local AGAIN <const> = { [2] = true, [3] = true, [4] = true }
local NO_MATCH <const> = -1

-- The last status of each target by its index: of a task what it said of it, else of its record.
local function last_statuses(node, job)
  local kind = job.fields.operation == "task" and "outcome" or "record"
  local last, after = {}, 0
  while after < job.last do
    local page, err = node.store:page(job.jid, after, PAGE, PAGE_BYTES, true)
    if not page then return nil, err end
    if #page.rows == 0 then break end
    if page.rows[1][1] > after + 1 then
      return nil, {
        code = "trimmed", message = "the records of this job are not kept any more, jid "
          .. job.jid,
      }
    end
    for _, row in ipairs(page.rows) do
      after = row[1]
      if row[3] == kind or row[5] == NO_MATCH then last[row[2]] = row[5] end
    end
    timer.sleep(0)
  end
  return last
end

-- Those that did not do well; a target of which nothing is known did not.
local function failed_of(node, job, names)
  local last, err = last_statuses(node, job)
  if not last then return nil, err end
  local failed = {}
  for i, name in ipairs(names) do
    local status = last[i - 1]
    if not status or AGAIN[status] then failed[#failed + 1] = name end
  end
  if #failed > 0 then return failed end
  return nil, {
    code = "ended", message = "no host of this job failed, was unreachable or was skipped, jid "
      .. job.jid,
  }
end

-- A task as it is now, and its args as they were, checked once more.
local function add_task(node, request, fields, kept)
  local task, err = node.tasks:get(kept.task)
  if not task then return nil, err end
  local opened
  opened, err = secrets.open(node, request.parent, fields.secrets)
  if not opened then return nil, err end
  local ok
  ok, err = secrets.agree(task.args, kept.args, opened, request.parent)
  if not ok then return nil, err end
  for name, value in pairs(opened) do kept.args[name] = value end
  request.values, err = accept.values(task, kept.args)
  if not request.values then return nil, err end
  local shown = json.decode(fields.args or "")
  -- The task may have come to want more since.
  if request.lock == "none" or task.lock == "exclusive" then request.lock = nil end
  request.task, request.given = task, type(shown) == "table" and shown.taskopts or kept.args
  request.timeout = kept.time_limit ~= task.time_limit and kept.time_limit or nil
  return request
end

function rerun.request(node, job, only)
  local fields = job.fields
  if job.state == RUNNING then
    return nil, { code = "running", message = "the job has not ended yet, jid " .. job.jid }
  end
  local names, err = node.store:targets(job.jid)
  if names and only == "failed" then names, err = failed_of(node, job, names) end
  if not names then return nil, err end
  local kept = json.decode(fields.request or "")
  if type(kept) ~= "table" then
    return nil, { code = "ended", message = "what this job was is not known, jid " .. job.jid }
  end
  local request = {
    operation = fields.operation, targets = names, parent = job.jid, lock = fields.lock,
    priority = tonumber(fields.priority), executor = kept.executor,
  }
  if fields.operation == "task" then return add_task(node, request, fields, kept) end
  request.args, request.timeout, request.window = kept.args, kept.timeout, kept.window
  request.lines = kept.lines
  -- Elsewhere it follows from the lease, and not every executor has one to ask for.
  if fields.operation == "execute" then request.fence = kept.fence end
  return request
end

return rerun
