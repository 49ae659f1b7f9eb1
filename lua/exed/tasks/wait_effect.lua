-- SPDX-License-Identifier: MIT
-- wait_up and wait_down as effects of a task: what exed.tasks.waits finds is written to the job's
-- results, a record for each host, before the task hears of it.

local json = require "exed.json"
local outputs = require "exed.tasks.outputs"
local timer = require "exed.timer"
local waits = require "exed.tasks.waits"

local wait_effect = {}

local ROWS <const> = 500 -- of results, written in one call

-- The indexes that have no record in a list.
local function without(indexes, records)
  local has, rest = {}, {}
  for _, record in ipairs(records) do has[record.i] = true end
  for _, index in ipairs(indexes) do
    if not has[index] then rest[#rest + 1] = index end
  end
  return rest
end

-- What of it a host's rows in the results tell, as JSON.
local function wait_row(effect, record)
  local row = { name = effect.args.step or effect.args.op }
  for key, value in pairs(record) do row[key] = value end
  row.i = nil
  return json.encode(row)
end

-- Writes the records of a wait. Returns true, or nil, err.
local function keep_records(self, effect, records)
  local slice = self.slice
  for first = 1, #records, ROWS do
    local rows = {}
    for i = first, math.min(first + ROWS - 1, #records) do
      local record = records[i]
      table.move({ record.i, "record", record.status, 0, wait_row(effect, record) }, 1, 5,
        #rows + 1, rows)
    end
    local ok, err = self.node.store:insist("append", slice.jid, slice.k, slice.epoch, effect.n, 0,
      rows)
    if not ok then return nil, err end
  end
  return true
end

-- Does the effect; waits. self: exed.tasks.effects. A wait is a look, which the next owner goes on
-- with (settle) for what is left of its time; hosts that have their record are not asked again.
-- Returns the answer, or nil, err.
function wait_effect.run(self, effect, settle)
  local inventory, args = self.node.holder.inventory, effect.args
  local pending, found = args.hosts, {}
  if settle then
    local err
    found, err = outputs.records(self.node, self.slice.jid, effect.n, args.hosts)
    if not found then return nil, err end
    pending = without(args.hosts, found)
  end
  local answer = waits.run({
    inventory = inventory, jid = self.slice.jid, seen = self.seen,
    op_id = ("%s.%d"):format(self.slice.jid, effect.n),
    spent = settle and effect.at and math.max(0, timer.wall() - effect.at) or 0,
    host = function(index) return inventory.by_name[self.names[index + 1]] end,
    pause = function(seconds) effect.event:wait(seconds) end,
    stopped = function() return effect.stop end,
    begun = function(probe) effect.probe = probe end,
  }, {
    op = args.op, hosts = pending, fields = args.fields, timeout = args.timeout,
    window = args.window,
  })
  if answer.error then return answer end
  if self.abandoned then return nil, { code = "closed", message = "the node ends" } end
  local ok, err = keep_records(self, effect, answer.records)
  if not ok then return nil, err end
  table.move(found, 1, #found, #answer.records + 1, answer.records)
  return answer
end

return wait_effect
