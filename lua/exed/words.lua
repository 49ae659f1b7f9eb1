-- SPDX-License-Identifier: MIT
-- Finds the known name that a mistyped name most likely means, for error messages.

local words = {}

local MAX_LENGTH = 64 -- longer names are no typing mistakes; bounds the work of one comparison

-- Number of single steps (insert, delete, replace, swap two neighbours) between two words.
local function distance(a, b)
  local before, last = {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local best = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      local swapped = i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j)
      if swapped then best = math.min(best, before[j - 2] + 1) end
      row[j] = best
    end
    before, last = last, row
  end
  return last[#b]
end

-- The nearest of `known` (a list of names) to `name`, or nil when none is near. Of two names
-- that are equally near, the first in the alphabet.
function words.nearest(name, known)
  if type(name) ~= "string" or name == "" or #name > MAX_LENGTH then return nil end
  local low, found, found_steps = name:lower(), nil, nil
  for _, candidate in ipairs(known) do
    local limit = math.max(1, math.min(#name, #candidate) // 3)
    if #candidate <= MAX_LENGTH and math.abs(#candidate - #name) <= limit then
      local steps = distance(low, candidate:lower())
      local better = not found or steps < found_steps
        or (steps == found_steps and candidate < found)
      if steps <= limit and better then found, found_steps = candidate, steps end
    end
  end
  return found
end

-- The tail of a message about an unknown name: ", did you mean 'x'?" or "" when none is near.
function words.hint(name, known)
  local near = words.nearest(name, known)
  return near and (", did you mean '%s'?"):format(near) or ""
end

-- The keys of a table as a sorted list.
function words.keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- A value as it is shown in a message: text in quotes, cut to 60 bytes, without control bytes.
function words.show(value)
  if type(value) ~= "string" then
    return type(value) == "table" and "a table" or tostring(value)
  end
  local text = value:sub(1, 64):gsub("%c", "?")
  if #text > 60 then text = text:sub(1, (utf8.offset(text, 0, 58) or 58) - 1) .. "..." end
  return "'" .. text .. "'"
end

-- The parts of a comma list that are not empty, for a `for`. A ',' between numbers in brackets, as
-- in web[01-03,07], is part of a name.
function words.parts(text)
  local from = 1
  return function()
    while from <= #text do
      local stop = text:find("[,%[]", from)
      while stop and text:sub(stop, stop) == "[" do
        stop = text:find("[,%[]", text:match("^%[%d[%d,-]*%]()", stop) or stop + 1)
      end
      stop = stop or #text + 1
      local part = text:sub(from, stop - 1)
      from = stop + 1
      if part ~= "" then return part end
    end
  end
end

return words
