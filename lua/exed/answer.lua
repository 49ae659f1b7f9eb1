-- SPDX-License-Identifier: MIT
-- What clients see of jobs: the job object and its return_data, written piece by piece, so that no
-- answer of 10,000 targets is ever built whole and the loop is never held.

local json = require "exed.json"
local timer = require "exed.timer"

local answer = {}

local STEP <const> = 1000 -- names between two turns of the loop; whole chunks of the store's 500
local RUNNING <const> = 1
local US <const> = 1000000 -- microseconds in a second
local STATUS <const> = {
  [1] = "OK", [2] = "SKIPED", [3] = "FAILED", [4] = "UNREACHABLE", [5] = "CHANGED",
  [-1] = "NO MATCH",
}
-- The fields of a job's hash that its object is made of; `names` are the targets of a small one.
local SHOWN <const> = {
  "state", "result", "phase", "stop", "paused", "waiting", "last", "targets", "names", "operation",
  "args", "startat", "error", "value", "parent",
}
local DETAILED <const> = table.move(SHOWN, 1, #SHOWN, 1, { [#SHOWN + 1] = "ended" })
for status in pairs(STATUS) do DETAILED[#DETAILED + 1] = "c:" .. status end

-- Writes show(item) of each item of a list as a JSON array.
function answer.items(out, list, show)
  out:write "["
  for first = 1, #list, STEP do
    local some = {}
    for i = first, math.min(first + STEP - 1, #list) do some[#some + 1] = show(list[i]) end
    out:write(first > 1 and "," or "", json.encode(json.array(some)):sub(2, -2))
    if first + STEP <= #list then timer.sleep(0) end
  end
  out:write "]"
end

-- Writes a list of names as a JSON array.
function answer.names(out, names)
  return answer.items(out, names, function(name) return name end)
end

local function wants_lines(request)
  local found = request and json.decode(request)
  return type(found) == "table" and found.lines == true
end

-- What a job that runs is doing: stopping, paused, waiting (for an answer of people) or running.
local function phase_of(fields)
  if fields.stop then return "stopping" end
  if fields.paused == "1" then return "paused" end
  if fields.waiting and fields.waiting ~= "" then return "waiting" end
  return fields.phase
end

local function new_job(jid, fields)
  return {
    jid = jid, fields = fields, phase = phase_of(fields), last = tonumber(fields.last) or 0,
    state = fields.state == "ended" and tonumber(fields.result) or RUNNING,
    total = tonumber(fields.targets) or 0,
  }
end

-- Other keys of a job have a colon behind its id. The store has no job of any other text.
local function may_be_jid(jid) return not jid:find(":", 1, true) end

local function gone(jid) return nil, { code = "gone", message = "no job " .. jid } end

-- The job as answers need it: jid, state (0 done, 1 running, 2 failure), phase, last (position of
-- its last row), lines, total and fields (its hash). nil, err: code "gone", or the store's.
function answer.load(node, jid)
  if not may_be_jid(jid) then return gone(jid) end
  local fields, err = node.store:get(jid)
  if not fields then return nil, err end
  local job = new_job(jid, fields)
  job.lines = wants_lines(fields.request)
  return job
end

-- The same with what answer.object shows alone, which costs the store little. detail: as there.
function answer.look(node, jid, detail)
  if not may_be_jid(jid) then return gone(jid) end
  local fields, err = node.store:look(jid, detail and DETAILED or SHOWN)
  if not fields then return nil, err end
  return new_job(jid, fields)
end

-- A follower's reader has the names in common with the other followers of the job.
local function write_targets(node, job, out, reader)
  out:write '{"targets":['
  for from = 0, job.total - 1, STEP do
    local text, err
    if reader then
      text, err = reader:names(from, math.min(STEP, job.total - from))
    else
      text, err = node.store:targets_text(job.jid, from, math.min(from + STEP, job.total))
    end
    if not text then return nil, err end
    out:write(from > 0 and text ~= "" and "," or "", text)
    if from + STEP < job.total then timer.sleep(0) end
  end
  out:write "]"
  return true
end

local function number_or_zero(text) return math.tointeger(tonumber(text)) or 0 end

-- The hosts that the job runs on now, longest first: { host, phase, since }, and where a file is
-- sent how much of it has gone; and whether that is what all nodes say.
local function running_hosts(node, job)
  local list, whole = node:running(job.jid)
  local names = {}
  for i, one in ipairs(list) do
    local chunk = one.index // STEP
    if not names[chunk] then
      local err
      names[chunk], err = node.store:targets(job.jid, chunk * STEP, (chunk + 1) * STEP)
      if not names[chunk] then return nil, err end
    end
    list[i] = {
      host = names[chunk][one.index % STEP + 1], phase = one.phase,
      since = math.floor(timer.wall() - one.seconds), sent = one.sent, size = one.size,
    }
  end
  return json.array(list), whole
end

-- What belongs to a job that runs; detail asks for its hosts too. Returns true, or nil, err.
local function write_progress(node, job, out, detail)
  out:write(',"phase":', json.encode(job.phase or "running"))
  if job.fields.paused == "1" then out:write ',"paused":true' end
  local question = job.fields.waiting
  if question and question ~= "" then
    out:write(',"waiting":', (question:gsub('^{"n":%d+,', "{", 1)))
  end
  if not detail then return true end
  local running, whole = running_hosts(node, job)
  if not running then return nil, whole end
  out:write(',"running":', json.encode(running))
  if not whole then out:write ',"running_whole":false' end
  return true
end

-- The same of a task, which tells several things of each target: they are grouped by the store, and
-- read a few at a time. An announcement to all is one of each.
local function write_groups(job, out, reader)
  local function write(piece) out:write(piece) end
  local index, after, from, open = -1, 0, 0, false
  while from < job.total do
    local page, err = reader:grouped(from, job.total, from == index and after or 0)
    if not page then return nil, err end
    from = page.next
    for _, row in ipairs(page.rows) do
      local is_next = row.index ~= index
      out:write(is_next and open and "]," or "", is_next and row.key .. ":[" or ",")
      index, after, open = row.index, row.id, true
      local ok
      ok, err = reader:write(row, write)
      if not ok then return nil, err end
    end
    timer.sleep(0)
  end
  if open then out:write "]" end
  return true
end

-- Writes the records that there are as the inside of return_data's object.
local function write_records(node, job, out)
  local reader <close>, err = node.follow:open(job, 0)
  if not reader then return nil, err end
  if job.fields.operation == "task" then return write_groups(job, out, reader) end
  local function write(piece) out:write(piece) end
  local comma = ""
  for row in reader:rows { last = job.last } do
    if row.kind == "record" then
      out:write(comma, row.key, ":[")
      local ok, failed = reader:write(row, write)
      if not ok then return nil, failed end
      out:write "]"
      comma = ","
    end
  end
  return not reader.failed, reader.failed
end

-- How many targets have a record of each status, by its name: {"CHANGED":20,"FAILED":1}.
local function counts_of(fields)
  local counts = {}
  for status, name in pairs(STATUS) do
    local n = number_or_zero(fields["c:" .. status])
    if n > 0 then counts[name] = n end
  end
  return json.encode(counts)
end

-- In one go: pieces in a table cost four times as much, and every GET of a job comes by here.
local function head_of(job, fields)
  return ',"operate":' .. json.encode(fields.operation or "")
    .. ',"operate_args":' .. (fields.args or "{}")
    .. ',"startat":' .. (fields.startat or "0")
    .. ',"state":' .. (job.state == RUNNING and "1" or fields.result)
    .. ',"taskid":"' .. job.jid
    .. '","error":' .. (fields.error and json.encode(fields.error) or '""')
end

-- Writes the job object. options: outputs (return_data is filled), detail, reader (of a follower).
-- Returns true, or nil, err.
function answer.object(node, job, out, options)
  local fields = job.fields
  local text = head_of(job, fields)
  if fields.names then
    text = '{"targets":' .. fields.names .. text
  else
    local ok, err = write_targets(node, job, out, options.reader)
    if not ok then return nil, err end
  end
  if options.detail then
    text = text .. ',"counts":' .. counts_of(fields)
    if fields.ended then text = text .. ',"endat":' .. number_or_zero(fields.ended) // US end
  end
  if fields.value then text = text .. ',"value":' .. fields.value end
  if fields.parent and fields.parent ~= "" then
    text = text .. ',"parent":' .. json.encode(fields.parent)
  end
  if job.state == RUNNING then
    out:write(text)
    text = ""
    local ok, err = write_progress(node, job, out, options.detail)
    if not ok then return nil, err end
  end
  if not options.outputs then
    out:write(text .. ',"return_data":{}}')
    return true
  end
  out:write(text .. ',"return_data":{')
  local ok, err = write_records(node, job, out)
  if not ok then return nil, err end
  out:write "}}"
  return true
end

-- Writes { host: record, ... } of a job, waiting for its end.
function answer.records(node, job, out)
  local reader <close>, err = node.follow:open(job, 0)
  if not reader then return nil, err end
  local function write(piece) out:write(piece) end
  local comma = "{"
  for row in reader:rows() do
    if row.kind == "record" then
      out:write(comma, row.key, ":")
      local ok
      ok, err = reader:write(row, write)
      if not ok then return nil, err end
      comma = ","
    end
  end
  out:write(comma == "{" and "{}" or "}")
  return not reader.failed, reader.failed
end

-- Writes a list of job objects.
function answer.list(node, jids, out)
  local comma = ""
  out:write "["
  for _, jid in ipairs(jids) do
    local job, err = answer.load(node, jid)
    if job then
      out:write(comma)
      local ok
      ok, err = answer.object(node, job, out, {})
      if not ok then return nil, err end
      comma = ","
      timer.sleep(0)
    elseif err.code ~= "gone" then
      return nil, err
    end
  end
  out:write "]"
  return true
end

return answer
