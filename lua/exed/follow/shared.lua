-- SPDX-License-Identifier: MIT
-- Answers that several fibers want: who asks while another one is asking waits for that answer, and
-- the latest answers are kept, up to a number of bytes.

local fiber = require "exed.fiber"

local shared = {}
shared.__index = shared

local LOOK <const> = 1 -- seconds; how often a fiber that waits looks for itself
local TABLE_BYTES <const> = 1000 -- what an answer that is no text counts as

-- room: bytes of answers that are kept; 0 keeps none, and only joins those who ask at one time.
function shared.new(room)
  return setmetatable({ room = room, items = {}, kept = {}, bytes = 0 }, shared)
end

local function keep(self, key, item)
  local value = item.value
  item.size = type(value) == "string" and #value or value.bytes or TABLE_BYTES
  self.kept[#self.kept + 1] = key
  self.bytes = self.bytes + item.size
  while self.bytes > self.room and #self.kept > 0 do
    local oldest = table.remove(self.kept, 1)
    self.bytes = self.bytes - self.items[oldest].size
    self.items[oldest] = nil
  end
end

-- What fetch() answers: a value (a table may say its size in `bytes`), or nil, err. An err is for
-- the one who asked; the others ask again.
function shared:get(key, fetch)
  local item = self.items[key]
  while item and not item.done do
    item.event:wait(LOOK)
    if item.value then return item.value end
    item = self.items[key]
  end
  if item then return item.value end
  item = { event = fiber.event() }
  self.items[key] = item
  -- The one who asks may be ended meanwhile.
  local _ <close> = setmetatable({}, {
    __close = function()
      if not item.value and self.items[key] == item then self.items[key] = nil end
      item.done = true
      item.event:notify()
    end,
  })
  local value, err = fetch()
  if not value then return nil, err end
  item.value = value
  keep(self, key, item)
  return value
end

return shared
