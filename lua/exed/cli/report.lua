-- SPDX-License-Identifier: MIT
-- Words for records: what became of a host, of all hosts, and of an interrupted run.

local ranges = require "exed.cli.ranges"

local report = {}

local WORDS <const> = {
  [-1] = "no match", [1] = "ok", [2] = "skipped", [3] = "failed", [4] = "unreachable",
  [5] = "changed",
}
local ORDER <const> = { 1, 5, 3, 4, 2, -1 }

function report.word(status) return WORDS[status] or "unknown" end

-- Whether the operation did what it should.
function report.is_done(record) return record.status == 1 or record.status == 5 end

-- Whether nothing went wrong: a host that is out of service is skipped, and no failure.
function report.is_good(record) return report.is_done(record) or record.disabled == true end

-- "killed", with what is wrong about it; `asked` is what was asked of a host that did not answer.
local function kill(record, killed, asked)
  if record.killed == false then return asked .. "; whether it was killed is not known" end
  if not record.killed or record.survivors == 0 then return killed end
  if not record.survivors then return killed .. "; what is left of it is not known" end
  return ("%s; %d processes of it are left"):format(killed, record.survivors)
end

-- A record of a host that an interrupt ended as it should: the list at the end names it.
function report.is_interrupted(record)
  if record.status == 2 then return record.error == report.INTERRUPTED end
  return record.cancelled == true and kill(record, "killed", "") == "killed"
end

-- Why a host's record is not good, as text.
function report.reason(record)
  if record.cancelled then return kill(record, "killed", "cancelled") end
  if record.timed_out and (record.rtc or not record.error) then
    return kill(record, "killed at its time limit", "over its time limit")
  end
  if record.signal then return "ended by signal " .. record.signal end
  if record.unknown then
    return "not known how it ended" .. (record.error and ": " .. record.error or "")
  end
  if record.error then return record.error end
  if record.rtc and record.rtc ~= 0 then return "exit code " .. record.rtc end
  return report.word(record.status)
end

-- The line about a host that is not good: "unreachable: connection refused".
function report.line(record)
  local word, reason = report.word(record.status), report.reason(record)
  return word == reason and word or word .. ": " .. reason
end

-- A reason without what is the host's own in it, so that equal troubles stand together.
function report.common(line, host)
  local function plain(text) return (text:gsub("%p", "%%%0")) end
  if host.address then
    line = line:gsub("%s*%(" .. plain(host.address) .. ":%d+%)", "")
    line = line:gsub("%s*%(%[" .. plain(host.address) .. "%]:%d+%)", "")
  end
  return line
end

-- "3 hosts", "1 host"
function report.count(n) return n == 1 and "1 host" or n .. " hosts" end

local UNITS <const> = { "KiB", "MiB", "GiB", "TiB" }

-- "812 B", "1.2 MiB"
function report.bytes(n)
  if n < 1024 then return ("%d B"):format(n) end
  local unit = 0
  while n >= 1024 and unit < #UNITS do n, unit = n / 1024, unit + 1 end
  return ("%.1f %s"):format(n, UNITS[unit])
end

-- "24 hosts: 22 ok, 2 failed in 1.2 s". plain: a change is what was asked for, and so "ok".
function report.summary(records, seconds, plain)
  local counts, n = {}, 0
  for _, record in pairs(records) do
    local status = plain and record.status == 5 and 1 or record.status
    counts[status] = (counts[status] or 0) + 1
    n = n + 1
  end
  local parts = {}
  for _, status in ipairs(ORDER) do
    if counts[status] then parts[#parts + 1] = counts[status] .. " " .. WORDS[status] end
  end
  return ("%s: %s in %.1f s"):format(report.count(n), table.concat(parts, ", "), seconds)
end

-- What had become of each host when the run was interrupted: a list of lines. hosts: the list that
-- records go by.
function report.interrupted(hosts, records)
  local kinds = { finished = {}, killed = {}, unstarted = {}, unsettled = {} }
  for i, host in ipairs(hosts) do
    local record, kind = records[i], "finished"
    if not record or (record.cancelled and record.killed == false) then
      kind = "unsettled"
    elseif record.cancelled then
      kind = "killed"
    elseif record.status == 2 and report.is_interrupted(record) then
      kind = "unstarted"
    end
    table.insert(kinds[kind], host.name)
  end
  local lines = { ("interrupted: %d had finished, %d were killed, %d never started"):format(
    #kinds.finished, #kinds.killed, #kinds.unstarted) }
  local function add(kind, label)
    if #kinds[kind] > 0 then
      lines[#lines + 1] = ("  %s: %s"):format(label, ranges.fold(kinds[kind]))
    end
  end
  add("finished", "finished")
  add("killed", "killed")
  add("unstarted", "never started")
  add("unsettled", "not known, they did not answer")
  return lines
end

report.INTERRUPTED = "interrupted"

return report
