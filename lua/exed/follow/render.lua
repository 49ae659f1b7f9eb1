-- SPDX-License-Identifier: MIT
-- Rows of a job's results as JSON. A record whose output lies in parts is put together piece by
-- piece: never more than one part of it is in memory.

local text = require "exed.text"

local render = {}

-- Bits of the number before a record (runtime/record.h): by stream, output in parts; not UTF-8.
local PARTS <const> = { 1, 2 }
local BINARY <const> = { 4, 8 }
local STREAMS <const> = { "stdout", "stderr" }

-- Calls fn(bytes) for each part of a stream, in order. Returns true, or nil, err.
local function each_part(source, parts, stream, fn)
  for _, part in ipairs(parts) do
    if part.stream == stream then
      local entry, err = source:entry(part.id)
      if not entry then return nil, err end
      fn(entry:sub(entry:find("\n", 1, true) + 1))
    end
  end
  return true
end

local function write_text(source, parts, stream, write)
  write(',"' .. STREAMS[stream] .. '":"')
  local ok, err = each_part(source, parts, stream, function(bytes) write((text.json(bytes))) end)
  write '"'
  return ok, err
end

-- Base64 takes three bytes at a time; what is over goes with the next part.
local function write_base64(source, parts, stream, write)
  local over = ""
  write(',"' .. STREAMS[stream] .. '_b64":"')
  local ok, err = each_part(source, parts, stream, function(bytes)
    bytes = over .. bytes
    local whole = #bytes - #bytes % 3
    write(text.base64(bytes:sub(1, whole)))
    over = bytes:sub(whole + 1)
  end)
  write(text.base64(over) .. '"')
  return ok, err
end

local function write_streams(source, mask, parts, write)
  for stream = 1, 2 do
    if mask & PARTS[stream] ~= 0 then
      local ok, err = write_text(source, parts, stream, write)
      if ok and mask & BINARY[stream] ~= 0 then
        ok, err = write_base64(source, parts, stream, write)
      end
      if not ok then return nil, err end
    end
  end
  return true
end

-- Where the value of a text of an object that the core has made begins and ends, or nil: no quote
-- in a text is without a backslash there, so what looks like the field is it.
local function find_text(object, name)
  local _, first = object:find('[{,]"' .. name .. '":"')
  if not first then return nil end
  local at = first + 1
  while true do
    local stop = object:find('["\\]', at)
    if not stop then return nil end
    if object:sub(stop, stop) == '"' then return first + 1, stop - 1 end
    at = stop + 2
  end
end

-- What a step of a task says, as the inside of a JSON text: the output of a command, else its
-- error.
local function said_by(object)
  for _, name in ipairs { "stdout", "stderr", "error" } do
    local first, last = find_text(object, name)
    if first and last >= first then return object:sub(first, last) end
  end
  return ""
end

-- A record that bears a name (of a task's step, or of a role) has its text in return_data too,
-- where clients look for it.
local function write_said(source, object, mask, parts, write)
  if mask and mask & PARTS[1] ~= 0 then
    write ',"return_data":"'
    local ok, err = each_part(source, parts, 1, function(bytes) write((text.json(bytes))) end)
    write '"'
    return ok, err
  end
  write(',"return_data":"' .. said_by(object) .. '"')
  return true
end

-- Writes the row's record by write(piece). source has parts(row) and entry(id), as a feed has.
-- alias: `state` stands beside `status`. Returns true, or nil, err in the middle of it.
function render.record(source, row, write, alias)
  local at = row.entry:find("{", 1, true)
  local mask = at and tonumber(row.entry:sub(1, at - 1))
  local object = row.entry
  if mask then object = object:sub(at) end
  local is_step = row.kind == "record" and (row.effect > 0 or object:sub(1, 9) == '{"name":"')
  if alias then object = ('{"state":%d,'):format(row.status) .. object:sub(2) end
  if not mask and not is_step then
    write(object)
    return true
  end
  local parts, err, ok = {}, nil, true
  if mask then parts, err = source:parts(row) end
  if not parts then return nil, err end
  write(object:sub(1, -2))
  if is_step then ok, err = write_said(source, object, mask, parts, write) end
  if ok and mask then ok, err = write_streams(source, mask, parts, write) end
  if not ok then return nil, err end
  write "}"
  return true
end

-- A part as followers of a job with `lines` see it.
function render.lines(row)
  local stream, offset, bytes = row.entry:match "^(%d) (%d+)\n(.*)$"
  local line, whole = text.json(bytes)
  local more = whole and "" or (',"lines_b64":"%s"'):format(text.base64(bytes))
  return ('{"lines":"%s"%s,"stream":"%s","offset":%s}')
    :format(line, more, STREAMS[tonumber(stream)], offset)
end

return render
