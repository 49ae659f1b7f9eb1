-- SPDX-License-Identifier: MIT
-- The Accept header (RFC 9110, 12.5.1): which of some media types a client likes best.

local accept = {}

local RANGES <const> = 64 -- that are looked at; more is no honest header

-- " text/html ; level=1; q=0.5" -> "text/html", 0.5; nil when it is none. Our types have no
-- parameters, so those of a range are left aside.
local function read_range(text)
  local kind, rest = text:match "^%s*([%w!#$&^_.+*-]+/[%w!#$&^_.+*-]+)%s*(.*)$"
  if not kind then return nil end
  local quality = 1
  for name, value in rest:gmatch ";%s*([%w_.-]+)%s*=%s*([^;]*)" do
    if name:lower() == "q" then
      quality = value:match "^([01]%.?%d?%d?%d?)%s*$"
      quality = quality and tonumber(quality)
      if not quality or quality > 1 then return nil end
      break
    end
  end
  return kind:lower(), quality
end

-- How exactly a range means the type: 3 that type, 2 its family, 1 anything, nil not at all.
local function exactness(range, kind)
  if range == kind then return 3 end
  if range == "*/*" then return 1 end
  return range == kind:match "^[^/]+/" .. "*" and 2 or nil
end

local function read_header(header)
  local ranges = {}
  for text in header:gmatch "[^,]+" do
    local kind, quality = read_range(text)
    if kind then ranges[#ranges + 1] = { kind = kind, quality = quality } end
    if #ranges == RANGES then break end
  end
  return ranges
end

-- The quality of a type: that of the most exact range that means it, 0 when there is none.
local function quality_of(ranges, kind)
  local best, quality = 0, 0
  for _, range in ipairs(ranges) do
    local exact = exactness(range.kind, kind)
    if exact and exact > best then best, quality = exact, range.quality end
  end
  return quality
end

-- The one of `kinds` (a list, ours first) that the header likes best; the first when it likes
-- several as much, when there is no header, and when it likes none: better that than nothing.
function accept.choose(header, kinds)
  local ranges = header and read_header(header) or {}
  local chosen, best = kinds[1], 0
  for _, kind in ipairs(kinds) do
    local quality = quality_of(ranges, kind)
    if quality > best then chosen, best = kind, quality end
  end
  return chosen
end

return accept
