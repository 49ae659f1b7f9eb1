-- SPDX-License-Identifier: MIT
-- What a process says of its hosts, a JSON object on each line: { host, status, ... }. It is not
-- trusted: what is wrong with a line is told where it can be, and harms no other host.
--
--   local lines = lines.new(run)            run: made, by_name, writer, work
--   lines:take(line) -> found | nil         host, status, record; nil: the line was none
--   lines:wrong() -> text                   what was wrong with lines of no host, for people; or ""

local fanout = require "exed.fanout"
local json = require "exed.json"
local log = require "exed.log"
local records = require "exed.process.records"
local secrets = require "exed.tasks.secrets"
local words = require "exed.words"

local lines = {}
lines.__index = lines

lines.MAX = 256 << 10 -- bytes of a line
lines.MAX_WRONG = 1000 -- lines that are none, before the process is ended
local MAX_VALUES <const> = 20000 -- in a line
local TOLD <const> = 3 -- of the lines that are none, so many are told of one by one
local STATUS <const> = { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 }
local OK <const>, FAILED <const>, UNREACHABLE <const>, CHANGED <const> = 1, 3, 4, 5

-- Fields of exed's own that are the process's to tell, and their types.
local ITS <const> = {
  host = "string", status = "any", error = "string", rtc = "integer", stdout = "string",
  stderr = "string",
}
local OWN <const> = {}
for _, name in ipairs(fanout.own_names()) do OWN[name] = not ITS[name] end

function lines.new(run)
  return setmetatable({ run = run, number = 0, count = 0, told = {} }, lines)
end

-- A line that is not of any host without a record.
local function reject(self, format, ...)
  self.count = self.count + 1
  if #self.told >= TOLD then return nil end
  local text = ("line %d: "):format(self.number) .. format:format(...)
  self.told[#self.told + 1] = text
  log.warn("process", "jid=%s slice=%d %s", self.run.work.jid, self.run.work.k, text)
  return nil
end

function lines:wrong()
  if self.count == 0 then return "" end
  local more = self.count - #self.told
  return table.concat(self.told, "; ") .. (more > 0 and ("; and %d more"):format(more) or "")
end

-- ---- one host -----------------------------------------------------------------------------------

local function has_type(value, want)
  if want == "any" then return true end
  if want == "integer" then return math.type(value) == "integer" end
  return type(value) == want
end

local function problem_of(message)
  for name, value in pairs(message) do
    if OWN[name] then return ("the field %s is exed's own"):format(words.show(name)) end
    if ITS[name] and not has_type(value, ITS[name]) then
      return ("%s must be %s %s"):format(name, ITS[name]:find "^i" and "an" or "a", ITS[name])
    end
  end
end

-- The number of the status that the line gives; nil and what is wrong.
local function status_of(run, message)
  local given = message.status
  if given == nil and message.rtc and run.made.process.judges then
    local verdict = run.made.verdict
    return verdict[message.rtc] or verdict.default or FAILED
  end
  local status = STATUS[given]
  for _, number in pairs(STATUS) do
    if given == number then status = number end
  end
  if not status then
    return nil, ("status must be OK, CHANGED, SKIPPED, FAILED or UNREACHABLE, got %s"):format(
      words.show(given))
  end
  if status == CHANGED and run.made.process.calm then return OK end
  return status
end

local function put_output(run, record, name, bytes)
  if not bytes then return end
  local cap, total = run.made.output_cap, #bytes
  if run.writer.cap and run.writer.cap < cap then cap = run.writer.cap end
  if total > cap then
    record:put("truncated", true)
    bytes = bytes:sub(1, cap)
  end
  record:output(name, bytes, total)
end

-- Status and record of a line whose host is known.
local function judge(run, host, message)
  local record = records.new(host)
  local status, wrong = nil, problem_of(message)
  if not wrong then status, wrong = status_of(run, message) end
  if wrong then
    record:put("error", "the line of its process: " .. wrong)
    record:times()
    return { status = FAILED, record = record }
  end
  if message.rtc then record:put("rtc", message.rtc) end
  local failed = status == FAILED or status == UNREACHABLE
  record:put("error", message.error or failed and "its process says no more than that" or nil)
  record:times()
  put_output(run, record, "stdout", message.stdout)
  put_output(run, record, "stderr", message.stderr)
  for _, name in ipairs(words.keys(message)) do
    if not ITS[name] then record:put(name, message[name]) end
  end
  return { status = status, record = record }
end

-- ---- a line -------------------------------------------------------------------------------------

function lines:take(line)
  self.number = self.number + 1
  if #line > lines.MAX then return reject(self, "longer than %d bytes", lines.MAX) end
  local message, err = json.decode(line, MAX_VALUES)
  if err then return reject(self, "no JSON: %s", err.message) end
  if type(message) ~= "table" or json.is_array(message) then
    return reject(self, "no JSON object")
  end
  if type(message.host) ~= "string" then return reject(self, "it names no host") end
  local host = self.run.by_name[message.host]
  if not host then
    return reject(self, "%s is no host of this run", words.show(message.host))
  end
  if host.phase == "done" then
    return reject(self, "%s has its record already", words.show(message.host))
  end
  local name = message.host
  message = secrets.mask(message, self.run.made.hidden or {})
  message.host = name
  local found = judge(self.run, host, message)
  found.host = host
  return found
end

return lines
