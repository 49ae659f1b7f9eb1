-- SPDX-License-Identifier: MIT
-- Records of a task's effects, as the task gets them: read from the store, so that what a task sees
-- is what is kept. Long output stays in the store until the task asks for it.

local json = require "exed.json"

local outputs = {}

local STEP <const> = 200 -- records asked for in one call
local INLINE <const> = 64 << 10 -- bytes of output in one answer
local MOST <const> = 64 << 10 -- bytes of a stream that a task sees
local SHORT <const> = 4 << 10 -- bytes of a record with nothing in it that would have to be left out

local STREAMS <const> = { stdout = 1, stderr = 2 }

-- An entry of the store: its mask (which streams lie in parts) and the record.
local function split(entry)
  local at = entry:find("{", 1, true) or 1
  return tonumber(entry:sub(1, at - 1)) or 0, json.decode(entry:sub(at)) or {}
end

-- Output goes into the answer while there is room; what is left out is fetched when it is read.
local function to_record(index, status, mask, record, room)
  record.i, record.status, record.name = index, status, nil
  for name, stream in pairs(STREAMS) do
    local text = record[name]
    record[name .. "_b64"] = nil
    if mask & stream ~= 0 then
      record[name] = nil
    elseif text and (#text > room or #text > MOST) then
      record[name] = nil
    else
      room = room - #(text or "")
      record[name] = text or (record.rtc and "" or nil)
    end
    local bytes = record[name .. "_bytes"]
    if bytes and bytes > MOST then record.truncated = true end
  end
  return record, room
end

-- The records of effect n on these indexes: a list, or nil, err.
function outputs.records(node, jid, n, indexes)
  local list, room = {}, INLINE
  for first = 1, #indexes, STEP do
    local some = table.move(indexes, first, math.min(first + STEP - 1, #indexes), 1, {})
    local rows, err = node.store:insist("found", jid, n, some)
    if not rows then return nil, err end
    for i = 1, #rows, 3 do
      local mask, record = split(rows[i + 2])
      list[#list + 1], room = to_record(rows[i], rows[i + 1], mask, record, room)
    end
  end
  return list
end

-- The record of one host as its fan-out gave it (mask: which streams lie in parts), for an answer.
-- A short one is not read to be written again.
function outputs.record(index, mask, data)
  if mask ~= 0 or #data > SHORT or data:find('_bytes":', 1, true) then
    local record = json.decode(data) or {}
    return (to_record(index, record.status, mask, record, INLINE))
  end
  local more = ""
  if data:find('"rtc":', 1, true) then
    for name in pairs(STREAMS) do
      if not data:find('"' .. name .. '":', 1, true) then more = more .. '"' .. name .. '":"",' end
    end
  end
  return json.raw(('{"i":%d,%s%s'):format(index, more, data:sub(2)))
end

local function from_parts(node, jid, n, index, stream)
  local parts, err = node.store:parts(jid, n, index)
  if not parts then return nil, err end
  local pieces, size = {}, 0
  for _, part in ipairs(parts) do
    if part.stream == stream and size < MOST then
      local entry
      entry, err = node.store:entry(jid, part.id)
      if not entry then return nil, err end
      local bytes = entry:sub(entry:find("\n", 1, true) + 1)
      pieces[#pieces + 1], size = bytes, size + #bytes
    end
  end
  return table.concat(pieces):sub(1, MOST)
end

-- At most the first 64 KiB of one stream of one record, or nil, err.
function outputs.text(node, jid, n, index, name)
  local rows, err = node.store:insist("found", jid, n, { index })
  if not rows then return nil, err end
  if not rows[3] or not STREAMS[name] then return "" end
  local mask, record = split(rows[3])
  if mask & STREAMS[name] ~= 0 then return from_parts(node, jid, n, index, STREAMS[name]) end
  return (record[name] or ""):sub(1, MOST)
end

return outputs
