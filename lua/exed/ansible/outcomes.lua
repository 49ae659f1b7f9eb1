-- SPDX-License-Identifier: MIT
-- What became of a host: from what Ansible's plugin says, or does not say, to a status and a
-- record. Each function returns { status, record } for the writer.

local records = require "exed.process.records"
local text = require "exed.text"

local outcomes = {}

local OK <const>, SKIPPED <const>, FAILED <const>, UNREACHABLE <const> = 1, 2, 3, 4
local CHANGED_CODE <const> = 10 -- of the plan's verdict
local SAID <const> = 1000 -- bytes of Ansible's own words in a record

-- ---- one task -----------------------------------------------------------------------------------

local function status_of(run, message)
  local verdict = run.made.verdict
  if message.status == "changed" then return verdict[CHANGED_CODE] end
  if message.status == "ok" then return verdict[0] end
  if message.status == "skipped" then return SKIPPED end
  return message.status == "unreachable" and UNREACHABLE or FAILED
end

local function put_output(run, record, message)
  for _, name in ipairs { "stdout", "stderr" } do
    local bytes = message[name] and text.unbase64(message[name]) or ""
    local total = message[name .. "_bytes"] or #bytes
    if run.writer.cap and #bytes > run.writer.cap then bytes = bytes:sub(1, run.writer.cap) end
    if total > #bytes then record:put("truncated", true) end
    record:output(name, bytes, total)
  end
end

local function of_task(run, host, message)
  local record, status = records.new(host), status_of(run, message)
  local told = run.plan.output and message.rc
  if told then record:exit(message.rc) end
  if (status == FAILED or status == UNREACHABLE) and not told then
    record:put("error", message.words ~= "" and message.words or "ansible says no more than that")
  end
  if status ~= UNREACHABLE then record:times() end
  if run.plan.facts and status == OK then
    if message.facts then
      record:put("facts", message.facts)
    else
      status = FAILED
      record:put("error", message.words)
    end
  end
  if told then put_output(run, record, message) end
  return { status = status, record = record }
end

-- ---- a play -------------------------------------------------------------------------------------

-- A line of what was done on the host. With `lines` it goes to followers at once.
local function add_line(run, host, message)
  local line = message.line .. "\n"
  host.said, host.text = (host.said or 0) + #line, host.text or {}
  if host.said <= (run.writer.cap or run.made.output_cap) then
    host.text[#host.text + 1] = line
    if run.made.lines then run.writer:line(host, line) end
  end
  local bad = message.status == "failed" or message.status == "unreachable"
  if bad and not message.ignored and message.words ~= "" then host.words = message.words end
end

-- The record of a deploy has what was done as its output.
local function put_text(run, host, record)
  if run.plan.mode ~= "play" then return end
  local bytes = table.concat(host.text or {})
  if (host.said or 0) > #bytes then record:put("truncated", true) end
  if host.told then
    record:told("stdout", host.said)
  else
    record:output("stdout", bytes, host.said or 0)
  end
end

-- ignored and rescued failures are none.
local function status_of_play(run, counts)
  if counts.unreachable > 0 then return UNREACHABLE end
  if counts.failures > 0 then return FAILED end
  if counts.given_up then return FAILED, "the play was stopped, since other hosts had failed" end
  if counts.changed > 0 then return run.made.verdict[CHANGED_CODE] end
  if counts.ok > 0 or counts.skipped == 0 then return OK end
  return SKIPPED
end

local function of_play(run, host, counts)
  local record = records.new(host)
  local status, error = status_of_play(run, counts)
  if status == FAILED or status == UNREACHABLE then
    record:put("error", error or host.words or "a task failed")
  end
  record:times()
  put_text(run, host, record)
  return { status = status, record = record }
end

local function take_counts(run, host, counts)
  if counts and host.phase ~= "done" and not host.overdue then
    run.writer:done(host, of_play(run, host, counts))
  end
end

-- The plugin's word on hosts on which nothing more is done, by name.
function outcomes.take_over(run, over)
  for name, counts in pairs(over) do
    if run.by_name[name] then take_counts(run, run.by_name[name], counts) end
  end
end

-- Its word on all at the end of a playbook.
function outcomes.take_stats(run)
  for _, host in ipairs(run.hosts) do take_counts(run, host, run.stats[host.name]) end
end

-- ---- a line of the plugin -----------------------------------------------------------------------

function outcomes.take(run, host, message)
  host.reported = run.plan.mode == "task" or host.overdue
  if host.overdue then run.event:notify() end
  if host.phase == "done" or host.overdue then return end
  if run.plan.mode == "play" then return add_line(run, host, message) end
  run.writer:done(host, of_task(run, host, message))
end

-- ---- what did not end by itself -----------------------------------------------------------------

-- What was found of it on the host and killed.
local function put_kill(record, found)
  local known = found and found.killed_by ~= nil
  record:put("killed", known and found.killed or false)
  if known then record:put("survivors", found.survivors) end
  record:put("killed_by", known and found.killed_by or "not verified")
end

function outcomes.timed_out(run, host, found)
  local record = records.new(host)
  record:put("rtc", 124)
  record:put("timed_out", true)
  put_kill(record, found)
  record:put("error", "time limit")
  record:times()
  put_text(run, host, record)
  return { status = FAILED, record = record }
end

-- A host that had started when Ansible ended or was ended.
function outcomes.broken(run, host, found, why)
  local record = records.new(host)
  if run.stop then record:put("cancelled", true) end
  put_kill(record, found)
  if not run.stop then record:put("unknown", true) end
  record:put("error", why)
  record:times()
  put_text(run, host, record)
  return { status = FAILED, record = record }
end

-- A host on which certainly nothing started.
function outcomes.unstarted(run, host, why)
  local record = records.new(host)
  if not run.stop and run.stats then
    why = "ansible did nothing on this host: no task of the play was for it"
  end
  record:put("error", why)
  put_text(run, host, record)
  return { status = run.stop and SKIPPED or FAILED, record = record }
end

-- The last lines of what Ansible printed.
local function last_words(said)
  said = said:gsub("%s+$", "")
  if #said > SAID then said = said:sub(-SAID):gsub("^[^\n]*\n", "") end
  return said
end

-- Why hosts are left without a word. ended: of exed.program, or nil.
function outcomes.why(run, ended)
  if run.stop then return run.stop end
  if run.stuck then return "ansible was ended: it went on with a host whose time was over" end
  if not ended then return "ansible was not started" end
  if ended.error and not ended.code and not ended.signal then return ended.error end
  local how = ended.signal and "by signal " .. ended.signal
    or "with code " .. tostring(ended.code or "unknown")
  local said = last_words(ended.said or "")
  return ("ansible ended %s and said nothing of this host%s"):format(how,
    said ~= "" and ": " .. said or "")
end

return outcomes
