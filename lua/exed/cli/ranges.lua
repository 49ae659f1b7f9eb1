-- SPDX-License-Identifier: MIT
-- Host names as ranges: web01, web02, web03, db1 -> "db1,web[01-03]".
--
-- Names of one form (the same text around as many numbers) share a bracket over one of their
-- numbers: the one that leaves the fewest brackets. 9 and 10 follow each other, 09 and 10 too,
-- 9 and 010 do not.

local ranges = {}

local MAX_DIGITS <const> = 15 -- of a number; longer ones are text

-- A name in pieces: pieces[1], pieces[3], ... text, pieces[2], pieces[4], ... digits.
local function split(name)
  local pieces, at = { "" }, 1
  while at <= #name do
    local text, digits, after = name:match("^(%D*)(%d*)()", at)
    local last = #pieces
    if #digits > MAX_DIGITS or digits == "" then
      pieces[last] = pieces[last] .. text .. digits
    else
      pieces[last] = pieces[last] .. text
      pieces[last + 1], pieces[last + 2] = digits, ""
    end
    at = after
  end
  return pieces
end

local function form_of(pieces)
  local text = {}
  for i = 1, #pieces, 2 do text[#text + 1] = pieces[i] end
  return table.concat(text, "\0")
end

-- What a name has around its piece `at`.
local function around(pieces, at)
  return table.concat(pieces, "", 1, at - 1), table.concat(pieces, "", at + 1)
end

-- Names that differ in piece `at` only, together: { { head, tail, numbers }, ... } by the order of
-- `list`.
local function group_by(list, at)
  local groups, by_key = {}, {}
  for _, pieces in ipairs(list) do
    local head, tail = around(pieces, at)
    local key = head .. "\0" .. tail
    local group = by_key[key]
    if not group then
      group = { head = head, tail = tail, numbers = {} }
      by_key[key] = group
      groups[#groups + 1] = group
    end
    group.numbers[#group.numbers + 1] = pieces[at]
  end
  return groups
end

local function best_groups(list)
  local best
  for at = #list[1] - 1, 2, -2 do
    local groups = group_by(list, at)
    if not best or #groups < #best then best = groups end
  end
  return best
end

-- Whether `next` is what a reader of `first`-`...` expects after `last`.
local function follows(first, last, next)
  if tonumber(next) ~= tonumber(last) + 1 then return false end
  return #next == #last or (first:sub(1, 1) ~= "0" and next:sub(1, 1) ~= "0")
end

local function by_number(a, b)
  local x, y = tonumber(a), tonumber(b)
  if x ~= y then return x < y end
  return #a < #b
end

local function number_list(numbers)
  table.sort(numbers, by_number)
  local out, first, last = {}, nil, nil
  local function close()
    if first then out[#out + 1] = first == last and first or first .. "-" .. last end
  end
  for _, number in ipairs(numbers) do
    if not first or not follows(first, last, number) then
      close()
      first = number
    end
    last = number
  end
  close()
  return table.concat(out, ",")
end

local function show(group)
  if #group.numbers == 1 then return group.head .. group.numbers[1] .. group.tail end
  return ("%s[%s]%s"):format(group.head, number_list(group.numbers), group.tail)
end

-- The key by which names stand in the order that people expect: web2 before web10.
local function natural(name)
  return (name:gsub("%d+", function(digits)
    return ("0"):rep(MAX_DIGITS - #digits) .. digits
  end))
end

-- Sorts a list of names in place, numbers by their value.
function ranges.sort(names)
  local keys = {}
  for _, name in ipairs(names) do keys[name] = natural(name) end
  table.sort(names, function(a, b)
    if keys[a] ~= keys[b] then return keys[a] < keys[b] end
    return a < b
  end)
  return names
end

-- A list of names, each once, as one text.
function ranges.fold(names)
  local forms, order = {}, {}
  for _, name in ipairs(ranges.sort(table.move(names, 1, #names, 1, {}))) do
    local pieces = split(name)
    local form = form_of(pieces)
    if not forms[form] then
      forms[form] = {}
      order[#order + 1] = form
    end
    table.insert(forms[form], pieces)
  end
  local out = {}
  for _, form in ipairs(order) do
    local list = forms[form]
    if #list[1] == 1 then
      out[#out + 1] = list[1][1]
    else
      for _, group in ipairs(best_groups(list)) do out[#out + 1] = show(group) end
    end
  end
  return table.concat(out, ",")
end

return ranges
