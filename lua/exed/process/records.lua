-- SPDX-License-Identifier: MIT
-- Records of hosts that a local process did something on, in the same form as those of the fan-out
-- (runtime/record.c), and the parts of long output that go before them.
--
--   local record = records.new(host)        host: index, started (wall clock), at (monotonic), or
--                                           neither, when nothing started
--   record:put(name, value)                 in this order; a value as json.encode takes it
--   record:output("stdout", bytes, total)   total: bytes that there were, of which these were kept
--   record:entries(status, name) -> list    flat, as exed_1_append takes entries

local json = require "exed.json"
local text = require "exed.text"
local timer = require "exed.timer"

local records = {}
records.__index = records

-- As in runtime/record.h: so much of a stream travels in the record; the longest part.
local INLINE <const> = 32 * 1024
local PART <const> = 48 * 1024
local PART_COST <const> = 100 -- what a part costs the store beside its bytes
local STREAM <const> = { stdout = 1, stderr = 2 }
local BINARY <const> = 4 -- times the stream's number, in the mask before a record

-- Signals by number, for exit codes below zero.
local SIGNALS <const> = {
  [1] = "HUP", [2] = "INT", [3] = "QUIT", [4] = "ILL", [6] = "ABRT", [7] = "BUS", [8] = "FPE",
  [9] = "KILL", [10] = "USR1", [11] = "SEGV", [12] = "USR2", [13] = "PIPE", [14] = "ALRM",
  [15] = "TERM",
}

function records.new(host)
  return setmetatable({ host = host, fields = {}, list = {}, mask = 0 }, records)
end

function records:raw(name, written)
  self.fields[#self.fields + 1] = ('"%s":%s'):format(name, written)
end

function records:put(name, value)
  if value ~= nil then self:raw(name, json.encode(value)) end
end

-- The exit code of a command; one that a signal ended has a negative one.
function records:exit(code)
  if code < 0 then
    self:put("rtc", 128 - code)
    self:put("signal", SIGNALS[-code] or "unknown")
  else
    self:put("rtc", code)
  end
end

-- Whether the byte there begins a character, or is none.
local function is_first(bytes, at)
  local byte = bytes:byte(at)
  return not byte or byte < 0x80 or byte >= 0xC0
end

-- Where a part that begins at `from` ends: not within a character.
local function part_end(bytes, from)
  local last = math.min(from + PART - 1, #bytes)
  local cut = last
  while cut > last - 3 and not is_first(bytes, cut + 1) do cut = cut - 1 end
  return is_first(bytes, cut + 1) and cut or last
end

local function put_parts(self, stream, bytes)
  local from = 1
  while from <= #bytes do
    local last = part_end(bytes, from)
    local entry = ("%d %d\n"):format(stream, from - 1) .. bytes:sub(from, last)
    local list, n = self.list, #self.list
    list[n + 1], list[n + 2], list[n + 3] = self.host.index, "part", 0
    list[n + 4], list[n + 5] = last - from + 1 + PART_COST, entry
    from = last + 1
  end
end

function records:output(name, bytes, total)
  local stream = STREAM[name]
  if #bytes > INLINE or total > #bytes then self:put(name .. "_bytes", total) end
  local written, whole = text.json(bytes)
  if #bytes > INLINE then
    self.mask = self.mask | stream | (whole and 0 or BINARY * stream)
    return put_parts(self, stream, bytes)
  end
  self:raw(name, '"' .. written .. '"')
  if not whole then self:raw(name .. "_b64", '"' .. text.base64(bytes) .. '"') end
end

-- A stream of which all that is kept has gone out as parts.
function records:told(name, total)
  self:put(name .. "_bytes", total)
  self.mask = self.mask | STREAM[name]
end

-- When it started and how long it took, if it did.
function records:times()
  local host = self.host
  if not host.started then return end
  self:raw("started", ("%.3f"):format(host.started))
  self:raw("seconds", ("%.3f"):format(timer.now() - host.at))
end

-- name: of a task's step, or nil.
function records:entries(status, name)
  local head = name and ('"name":%s,'):format(json.encode(name)) or ""
  local more = #self.fields > 0 and "," .. table.concat(self.fields, ",") or ""
  local object = ('{%s"status":%d%s}'):format(head, status, more)
  local list, n = self.list, #self.list
  list[n + 1], list[n + 2], list[n + 3] = self.host.index, "record", status
  list[n + 4] = #object
  list[n + 5] = (self.mask > 0 and tostring(self.mask) or "") .. object
  return list
end

return records
