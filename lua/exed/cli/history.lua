-- SPDX-License-Identifier: MIT
-- The journal of a task, fetched from a running exed, and its effects in words.

local ranges = require "exed.cli.ranges"
local remote = require "exed.cli.remote"
local report = require "exed.cli.report"

local history = {}

local WHAT <const> = 60 -- characters of a command

-- All entries of a journal, oldest first; with start, if it was asked for. nil, err.
function history.fetch(node, path, wants_start)
  local entries, after, start = {}, 0, nil
  while true do
    local page, err = node:ask("GET", ("%s/journal?after=%d%s"):format(path, after,
      wants_start and after == 0 and "&start=1" or ""))
    if not page then return nil, err end
    start = start or page.start
    for _, entry in ipairs(page.entries) do
      after = entry.id
      entries[#entries + 1] = entry
    end
    if #page.entries == 0 or after >= page.last then return entries, start end
  end
end

-- Hosts of a list of indexes; -1 is the node.
function history.hosts(names, indexes)
  local list = {}
  for i, index in ipairs(indexes) do list[i] = index < 0 and "node" or names[index + 1] or "?" end
  return ranges.fold(list)
end

local kinds = {}

function kinds.op(args, names)
  local fields = args.fields or {}
  local what = fields.command or fields.argv and table.concat(fields.argv, " ")
    or fields.name and fields.name .. " " .. (fields.state or "") or fields.role or fields.via or ""
  local step = args.step and args.step .. ": " or ""
  return ("%s: %s%s %s"):format(history.hosts(names, args.hosts), step, args.op, what)
end

function kinds.sleep(args) return ("sleep %g s"):format(args.seconds) end
function kinds.http(args) return ("%s %s"):format(args.method, args.url) end
function kinds.tally(args, names)
  return ("%s: tally %s %s"):format(history.hosts(names, { args.host }), args.change, args.name)
end
function kinds.approval(args) return "ask: " .. args.message end

function kinds.say(args, names)
  return (args.host and history.hosts(names, { args.host }) .. ": " or "") .. "say " .. args.text
end

function kinds.outcome(args, names)
  local why = args.text and args.text ~= "" and ": " .. args.text or ""
  return ("%s: outcome %s%s"):format(history.hosts(names, args.hosts), args.status, why)
end

-- What an effect asks, on one line. names: of the job's targets.
function history.describe(ask, names)
  local kind = kinds[ask.kind]
  return remote.line(kind and kind(ask.args, names) or ask.kind, WHAT)
end

local function say_records(list)
  local counts, order = {}, {}
  for _, record in ipairs(list) do
    local reason = not report.is_done(record) and report.line(record) or report.word(record.status)
    if not counts[reason] then order[#order + 1] = reason end
    counts[reason] = (counts[reason] or 0) + 1
  end
  if #list == 1 then return order[1] end
  for i, reason in ipairs(order) do order[i] = counts[reason] .. " " .. reason end
  return table.concat(order, ", ")
end

-- What an effect was answered, on one line.
function history.answer(ans)
  if ans.error then return remote.line("error: " .. ans.error.message) end
  if ans.failed then return remote.line("no answer: " .. ans.failed.message) end
  if ans.records then return remote.line(say_records(ans.records)) end
  if ans.response then return tostring(ans.response.status) end
  if ans.count then return tostring(ans.count) end
  if ans.timeout then return "nobody answered" end
  if ans.approved ~= nil then
    return remote.line(("%s said %s"):format(ans.who or "somebody", ans.approved and "yes" or "no"))
  end
  return "done"
end

return history
