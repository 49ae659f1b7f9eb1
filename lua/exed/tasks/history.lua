-- SPDX-License-Identifier: MIT
-- The journal of a task's job as others than its owner read it.

local json = require "exed.json"
local pins = require "exed.tasks.pins"

local history = {}

local PAGE_BYTES <const> = 4 << 20 -- of one page; it may be more by one entry

-- Entries after an id, at most `count`: a list of { id, text }, with last (the id of the last one
-- that there is); or nil, err.
function history.page(node, jid, after, count)
  local rows, err = node.store:insist("journal_read", jid, after, count, PAGE_BYTES)
  if not rows then return nil, err end
  local page = { last = rows[1] }
  for i = 2, #rows do page[i - 1] = { id = rows[i][1], text = rows[i][2] } end
  return page
end

-- What the task was started with, as JSON: name, args, hosts, jid, who, at, seed; or nil, err.
function history.start(node, job)
  local fields = job.fields
  local request = json.decode(fields.request or "") or {}
  local found, err = pins.load(node, fields.pins)
  if not found then return nil, err end
  -- Of secret args it has *** only.
  return json.encode {
    name = request.task, args = request.args or {}, hosts = json.raw(found.hosts),
    jid = job.jid, who = fields.who, at = tonumber(fields.startat) or 0,
    seed = pins.seed(job.jid),
  }
end

return history
