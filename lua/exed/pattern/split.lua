-- SPDX-License-Identifier: MIT
-- Splits the text of an inventory pattern at ',' and ':' into single patterns. A ':' in brackets
-- or in an IPv6 address splits nothing; a ',' does, but between numbers in brackets.

local names = require "exed.inventory.names"
local words = require "exed.words"

local function begins_regex(text, at) return text:find("^%s*[!&]?%s*~", at) ~= nil end

-- The parts of a text between ':' that is not in brackets; in a regular expression, round ones
-- count, too, and what follows a backslash does not.
local function colon_parts(text, refuse)
  local parts, from, pos, square, round = {}, 1, 1, false, 0
  local regex = begins_regex(text, 1)
  while true do
    local at, char = text:match("()([:%[%]()\\])", pos)
    if not at then break end
    pos = at + 1
    if char == "\\" then
      pos = regex and at + 2 or pos
    elseif char == "[" or char == "]" then
      square = char == "["
    elseif char ~= ":" then
      round = regex and not square and round + (char == "(" and 1 or -1) or round
    elseif not square and round <= 0 then
      parts[#parts + 1] = text:sub(from, at - 1)
      from, round, regex = at + 1, 0, begins_regex(text, at + 1)
    end
  end
  if square then
    refuse("bad pattern %s: a '[' without ']'", words.show(text))
  end
  parts[#parts + 1] = text:sub(from)
  return parts
end

local function bare(text) return (text:gsub("^[!&]%s*", "")) end

-- How many of the parts from `at` on make one IPv6 address (0: none). One that the inventory has
-- is taken first, then a part that is a name by itself, then what has the form of an address.
local function address_parts(inventory, parts, at)
  local last = math.min(#parts, at + 8)
  local longest = 0
  for stop = last, at + 1, -1 do
    local joined = bare(table.concat(parts, ":", at, stop))
    if inventory.by_name[joined] then return stop - at + 1 end
    if longest == 0 and names.is_ipv6(joined, true) then longest = stop - at + 1 end
  end
  local alone = bare(parts[at])
  if inventory.groups[alone] or inventory.by_name[alone] then return 0 end
  return longest
end

-- Splits one piece (no comma in it) at ':' and hands each part to `add`.
local function split_colons(inventory, piece, refuse, add)
  if inventory.by_name[piece] or not piece:find(":", 1, true) then return add(piece) end
  local parts = colon_parts(piece, refuse)
  local second = parts[2]
  if #parts == 2 and second:find "^%d+$" and not inventory.groups[second]
    and not inventory.by_name[second] then
    return add(piece) -- name:port, which no pattern can mean
  end
  local at = 1
  while at <= #parts do
    local count = math.max(1, address_parts(inventory, parts, at))
    local part = table.concat(parts, ":", at, at + count - 1):match "^%s*(.-)%s*$"
    if part ~= "" then add(part) end
    at = at + count
  end
end

-- Calls add(part) for each single pattern of a text, operators kept; refuse(format, ...) raises.
local function split(inventory, text, refuse, add)
  if text:find "%c" then refuse("a pattern must not have control characters") end
  for piece in words.parts(text) do
    piece = piece:match "^%s*(.-)%s*$"
    if piece ~= "" then split_colons(inventory, piece, refuse, add) end
  end
end

return split
