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

-- Writes the row's record by write(piece). source has parts(row) and entry(id), as a feed has.
-- alias: `state` stands beside `status`. Returns true, or nil, err in the middle of it.
function render.record(source, row, write, alias)
  local at = row.entry:find("{", 1, true)
  local mask = at and tonumber(row.entry:sub(1, at - 1))
  local object = row.entry
  if mask then object = object:sub(at) end
  if alias then object = ('{"state":%d,'):format(row.status) .. object:sub(2) end
  if not mask then
    write(object)
    return true
  end
  local parts, err = source:parts(row)
  if not parts then return nil, err end
  write(object:sub(1, -2))
  local ok
  ok, err = write_streams(source, mask, parts, write)
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
