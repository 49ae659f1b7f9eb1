-- SPDX-License-Identifier: MIT
-- Shows the rows of a job to a person: what hosts say as they say it, a task's announcements and
-- steps, and at the end what became of all. Rows are those of GET /jobs/JID?follow=1 as NDJSON.
--
--   local shown = person.new(out, { quiet })
--   shown:job(row)    shown:row(row)    shown:finish { state, error, value }
--   shown.outcomes    what a task said of each host: name -> status

local json = require "exed.json"
local ranges = require "exed.cli.ranges"
local remote = require "exed.cli.remote"
local report = require "exed.cli.report"
local text = require "exed.text"
local views = require "exed.cli.views"

local person = {}
person.__index = person

local STREAMS <const> = { "stdout", "stderr" }

-- What a record without output says: of a task's step its name too.
local function say(record)
  if not record.silent then return "" end
  local word = report.word(record.status)
  return record.step and record.step .. ": " .. word or word
end

function person.new(out, options)
  local self = setmetatable({
    out = out, hosts = {}, places = {}, printed = {}, counts = {}, outcomes = {}, groups = {},
    order = {}, quiet = options and options.quiet,
  }, person)
  self.view = views.live(out, self.hosts, {
    say = say, label = function(record) return record.step and record.step .. ": " or "" end,
  })
  return self
end

-- The place of a host in the view's list.
local function place_of(self, name)
  local i = self.places[name]
  if not i then
    i = #self.hosts + 1
    self.hosts[i], self.places[name], self.printed[i] = { name = name }, i, { 0, 0 }
  end
  return i
end

local function count(self, status) self.counts[status] = (self.counts[status] or 0) + 1 end

local function part(self, i, entry)
  local stream = entry.stream == "stderr" and 2 or 1
  local bytes = entry.lines_b64 and text.unbase64(entry.lines_b64) or entry.lines
  self.printed[i][stream] = entry.offset + #bytes
  self.view:part(i, { stream = stream, data = bytes })
end

-- A record has the output once more of which the lines came before.
local function record(self, i, found)
  local silent, printed = true, self.printed[i]
  for stream, name in ipairs(STREAMS) do
    local binary = found[name .. "_b64"]
    local bytes = binary and text.unbase64(binary) or found[name] or ""
    silent = silent and bytes == "" and printed[stream] == 0
    self.view:part(i, { stream = stream, data = bytes:sub(printed[stream] + 1) })
    found[name], found[name .. "_b64"] = nil, nil
  end
  if silent and type(found.return_data) == "string" and found.return_data ~= "" then
    silent = false
    self.view:part(i, { stream = 1, data = found.return_data })
  end
  found.silent = silent
  if self.task then
    found.step = found.name and remote.line(found.name)
  else
    count(self, found.status)
  end
  if self.task and report.is_interrupted(found) then
    self.out:note("%s: %s: %s", self.hosts[i].name, found.step or "a step", report.reason(found))
  end
  self.view:record(i, found)
  self.printed[i] = { 0, 0 } -- a task's next step on it begins anew
end

-- What is said to all comes once, for one target or for each.
local function announcement(self, name, entry)
  local said = tostring(entry.return_data or entry.message or "")
  if not entry.everywhere and self.task then said = name .. ": " .. said end
  if said ~= self.said then self.out:put("-- " .. said .. "\n") end
  self.said = said
end

-- What a task says of a host; the last one counts.
local function outcome(self, name, entry)
  place_of(self, name)
  self.outcomes[name] = { status = entry.status, text = tostring(entry.return_data or "") }
end

-- An outcome bears the task's name; a step that is called so has more to tell.
local function is_outcome(self, entry)
  return self.task and entry.name == self.task and entry.started == nil and entry.error == nil
    and not entry.lines
end

function person:row(row)
  for name, entry in pairs(row.entry) do
    if entry.status == 0 then
      announcement(self, name, entry)
    elseif is_outcome(self, entry) then
      outcome(self, name, entry)
    elseif self.quiet and self.task then
      self.said = nil
    elseif entry.lines then
      part(self, place_of(self, name), entry)
    else
      record(self, place_of(self, name), entry)
    end
  end
end

function person:job(row)
  local job = row.job
  if job.operate == "task" and type(job.operate_args) == "table" then
    self.task = job.operate_args.taskname
  end
end

-- ---- the end ------------------------------------------------------------------------------------

local ORDER <const> = { [5] = 1, [1] = 2, [2] = 3, [4] = 4, [3] = 5 }

-- A reason mostly begins with the host's name, which would keep equal ones apart.
local function without_name(reason, name)
  local prefix = name .. ": "
  return reason:sub(1, #prefix) == prefix and reason:sub(#prefix + 1) or reason
end

-- The hosts of a task, those with the same outcome together.
local function show_outcomes(self)
  local groups, order = {}, {}
  for _, host in ipairs(self.hosts) do
    local one = self.outcomes[host.name]
    if one then
      local said = without_name(one.text, host.name)
      local key = one.status .. said
      if not groups[key] then
        groups[key] = { names = {}, text = said, status = one.status }
        order[#order + 1] = groups[key]
      end
      table.insert(groups[key].names, host.name)
      count(self, one.status)
    end
  end
  table.sort(order, function(a, b)
    if a.status ~= b.status then return (ORDER[a.status] or 9) < (ORDER[b.status] or 9) end
    return #a.names ~= #b.names and #a.names > #b.names or a.names[1] < b.names[1]
  end)
  for _, group in ipairs(order) do
    local why = group.text ~= "" and ": " .. group.text or ""
    self.out:put(("== %s (%s): %s%s\n"):format(ranges.fold(group.names),
      report.count(#group.names), report.word(group.status), why))
  end
end

function person:finish(ending)
  if self.task then show_outcomes(self) end
  local words = {}
  for _, status in ipairs { 5, 1, 2, 3, 4, -1 } do
    if self.counts[status] then
      words[#words + 1] = ("%d %s"):format(self.counts[status], report.word(status))
    end
  end
  local counted = #words > 0 and ": " .. table.concat(words, ", ") or ""
  local why = ending.error ~= "" and " (" .. ending.error .. ")" or ""
  if ending.value ~= nil then self.out:note("it returned %s", json.encode(ending.value)) end
  self.out:note("job %s%s%s", remote.state_word(ending), counted, why)
end

return person
