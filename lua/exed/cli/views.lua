-- SPDX-License-Identifier: MIT
-- The ways to show what hosts say: as it comes, folded, or as JSON. A view gets, by the host's
-- place in the list of hosts, parts of output while a command runs, then one record:
--
--   view:part(i, entry)       view:record(i, record, entry)      view:finish()
--
-- entry is the fan-out's; record is its JSON, read. view.lines says whether parts should come line
-- by line, view.cap how many bytes of a stream are wanted.

local ranges = require "exed.cli.ranges"
local report = require "exed.cli.report"
local text = require "exed.text"

local views = {}

local STREAMS <const> = { "stdout", "stderr" }
local PARTS <const> = { 1, 2 } -- bits of entry.parts: that stream came in parts
local BINARY <const> = { 4, 8 } -- and is not UTF-8

-- The bytes of a stream that are in the record itself.
local function inline(record, stream)
  local name = STREAMS[stream]
  local binary = record[name .. "_b64"]
  return binary and text.unbase64(binary) or record[name] or ""
end

-- ---- as it comes --------------------------------------------------------------------------------

local live = {}
live.__index = live

-- The longest end of a line that waits for its newline; a longer one is broken there.
local MAX_TAIL <const> = 65536

-- options: prefix (false: no host before the lines), say(record) -> text of a good record's line,
-- label(record) -> what stands before the line of another
function views.live(out, hosts, options)
  return setmetatable({
    out = out, hosts = hosts, prefix = options.prefix ~= false, say = options.say,
    label = options.label or function() return "" end,
    lines = true, cap = math.maxinteger, tails = {},
  }, live)
end

local function put(self, stream, bytes)
  if stream == 1 then self.out:put(bytes) else self.out:complain(bytes) end
end

local function put_lines(self, i, stream, lines)
  local prefix = self.hosts[i].name .. ": "
  put(self, stream, prefix .. lines:gsub("\n", "\n" .. prefix) .. "\n")
end

-- Whole lines go out with the host before them; what has no newline yet waits for it.
local function put_bytes(self, i, stream, bytes)
  if bytes == "" then return end
  if not self.prefix then return put(self, stream, bytes) end
  local key = 2 * i + stream
  bytes = (self.tails[key] or "") .. bytes
  local lines, tail = bytes:match "^(.*)\n(.*)$"
  if lines then put_lines(self, i, stream, lines) end
  tail = tail or bytes
  if #tail > MAX_TAIL then
    put_lines(self, i, stream, tail)
    tail = ""
  end
  self.tails[key] = tail ~= "" and tail or nil
end

local function put_tail(self, i, stream)
  local key = 2 * i + stream
  if self.tails[key] then put_lines(self, i, stream, self.tails[key]) end
  self.tails[key] = nil
end

function live:part(i, entry) put_bytes(self, i, entry.stream, entry.data) end

function live:record(i, record)
  for stream = 1, 2 do
    put_bytes(self, i, stream, inline(record, stream))
    if self.prefix then put_tail(self, i, stream) end
  end
  local name = self.hosts[i].name
  if report.is_interrupted(record) then return end
  if not report.is_done(record) then
    self.out:note("%s: %s%s", name, self.label(record), report.line(record))
  elseif self.say then
    local said = self.say(record)
    if said ~= "" then put_lines(self, i, 1, said) end
  end
  if record.truncated then self.out:note("%s: its output was cut", name) end
end

function live.finish() end

-- ---- parts that wait for their record -----------------------------------------------------------

-- What is kept of parts, so that no number of hosts can fill the memory: `room` bytes at once;
-- beyond, a stream is cut where it is.
local function new_held(room) return { room = room, parts = {}, cut = {} } end

local function hold(held, i, entry)
  local key = 2 * i + entry.stream
  if #entry.data > held.room then held.cut[key] = true end
  if held.cut[key] then return end
  held.room = held.room - #entry.data
  held.parts[key] = held.parts[key] or {}
  table.insert(held.parts[key], entry.data)
end

-- The bytes of a stream that were held, or nil, and whether it was cut; they are let go.
local function release(held, i, stream)
  local key = 2 * i + stream
  local parts, cut = held.parts[key], held.cut[key]
  held.parts[key], held.cut[key] = nil, nil
  local bytes = parts and table.concat(parts) or cut and ""
  if bytes then held.room = held.room + #bytes end
  return bytes, cut
end

-- ---- folded -------------------------------------------------------------------------------------

local folded = {}
folded.__index = folded

local CUT <const> = 4096 -- bytes kept of an output once all of them are over the bound

-- options: cap (bytes of a stream), total (bytes of all outputs that differ), say as for live
function views.folded(out, hosts, options)
  return setmetatable({
    out = out, hosts = hosts, say = options.say, cap = options.cap, room = options.total // 2,
    held = new_held(options.total // 2), groups = {}, order = {},
  }, folded)
end

function folded:part(i, entry) hold(self.held, i, entry) end

local function whole(self, i, stream, record)
  local bytes, cut = release(self.held, i, stream)
  if cut then record.truncated = true end
  return bytes or inline(record, stream)
end

local function add_group(self, key, group)
  local size = #group.stdout + #group.stderr
  if size > self.room then
    group.cut = #group.stdout > CUT or #group.stderr > CUT
    group.stdout, group.stderr = group.stdout:sub(1, CUT), group.stderr:sub(1, CUT)
  end
  self.room = math.max(0, self.room - size)
  self.groups[key] = group
  self.order[#self.order + 1] = group
end

function folded:record(i, record)
  local done = report.is_done(record)
  local group = {
    stdout = whole(self, i, 1, record), stderr = whole(self, i, 2, record), names = {},
    line = not done and report.common(report.line(record), self.hosts[i]) or nil,
    cut = record.truncated, silent = report.is_interrupted(record),
  }
  if done and self.say then group.stdout = group.stdout .. self.say(record) .. "\n" end
  local key = text.sha256(("%s\0%d\0%s%s"):format(group.line or "", #group.stdout, group.stdout,
    group.stderr))
  if not self.groups[key] then add_group(self, key, group) end
  table.insert(self.groups[key].names, self.hosts[i].name)
end

local function whole_lines(bytes)
  return bytes:sub(-1) == "\n" and bytes or bytes .. "\n"
end

local function show_group(self, group)
  local names = ranges.fold(group.names)
  if not group.line or group.stdout ~= "" then
    self.out:put(("== %s (%s)\n"):format(names, report.count(#group.names)))
  end
  if group.stdout ~= "" then self.out:put(whole_lines(group.stdout)) end
  if group.stderr ~= "" then
    local lines = group.stderr:gsub("\n$", ""):gsub("\n", "\n" .. names .. ": ")
    self.out:complain(names .. ": " .. lines .. "\n")
  end
  if group.cut then self.out:note("%s: the output was cut", names) end
  if group.line and not group.silent then
    self.out:note("%s (%s): %s", names, report.count(#group.names), group.line)
  end
end

-- Most hosts first, those that did well before those that did not.
function folded:finish()
  for _, group in ipairs(self.order) do group.first = ranges.sort(group.names)[1] end
  table.sort(self.order, function(a, b)
    if (a.line == nil) ~= (b.line == nil) then return a.line == nil end
    if #a.names ~= #b.names then return #a.names > #b.names end
    return a.first < b.first
  end)
  for _, group in ipairs(self.order) do show_group(self, group) end
end

-- ---- JSON ---------------------------------------------------------------------------------------

local as_json = {}
as_json.__index = as_json

-- options: cap (bytes of a stream), total (bytes of all that wait at once)
function views.json(out, hosts, options)
  return setmetatable({
    out = out, hosts = hosts, cap = options.cap, held = new_held(options.total // 2),
  }, as_json)
end

function as_json:part(i, entry) hold(self.held, i, entry) end

local function add_stream(self, i, stream, mask, pieces)
  if mask & PARTS[stream] == 0 then return end
  local bytes, cut = release(self.held, i, stream)
  bytes = bytes or ""
  if cut and not pieces[2]:find('"truncated":true', 1, true) then
    pieces[#pieces + 1] = ',"truncated":true'
  end
  pieces[#pieces + 1] = (',"%s":"%s"'):format(STREAMS[stream], (text.json(bytes)))
  if mask & BINARY[stream] ~= 0 then
    pieces[#pieces + 1] = (',"%s_b64":"%s"'):format(STREAMS[stream], text.base64(bytes))
  end
end

-- The record as the API has it, with the host's name in it.
function as_json:record(i, _, entry)
  local pieces = { ('{"host":"%s",'):format(self.hosts[i].name), entry.data:sub(2, -2) }
  for stream = 1, 2 do add_stream(self, i, stream, entry.parts, pieces) end
  pieces[#pieces + 1] = "}\n"
  self.out:put(table.concat(pieces))
end

function as_json.finish() end

return views
