-- SPDX-License-Identifier: MIT
-- The parts of Lua's library that differ from process to process, in a form that does not: a task
-- that is run again must do the same again.

local same = {}

-- ---- order of keys ------------------------------------------------------------------------------

local function by_kind(a, b)
  local x, y = type(a), type(b)
  if x ~= y then return x == "number" end
  return a < b
end

-- The keys of a table: numbers, then strings. Others have no order that holds.
local function sorted_keys(t)
  local keys = {}
  for key in next, t do
    local kind = type(key)
    if kind ~= "number" and kind ~= "string" then
      if kind ~= "boolean" then
        error(("pairs: a key is a %s, and these have no order that would be the same on a resume; "
          .. "keep a list beside the table"):format(kind), 3)
      end
    end
    keys[#keys + 1] = key
  end
  local flags = {}
  for i = #keys, 1, -1 do
    if type(keys[i]) == "boolean" then flags[keys[i]] = true table.remove(keys, i) end
  end
  table.sort(keys, by_kind)
  if flags[false] then keys[#keys + 1] = false end
  if flags[true] then keys[#keys + 1] = true end
  return keys
end

function same.pairs(t)
  local meta = debug.getmetatable(t) -- also of those that hide it: host.vars
  if type(meta) == "table" and meta.__pairs then return meta.__pairs(t) end
  if type(t) ~= "table" then
    error(("bad argument #1 to 'pairs' (table expected, got %s)"):format(type(t)), 2)
  end
  local keys, i = sorted_keys(t), 0
  local function step()
    while true do
      i = i + 1
      local key = keys[i]
      if key == nil then return nil end
      local value = rawget(t, key)
      if value ~= nil then return key, value end -- not one that the loop has taken away
    end
  end
  return step, t, nil
end

function same.next(t, key)
  if next(t) == nil then return nil end
  local keys = sorted_keys(t)
  if key == nil then return keys[1], rawget(t, keys[1]) end
  for i, known in ipairs(keys) do
    if known == key then
      local after = keys[i + 1]
      if after == nil then return nil end
      return after, rawget(t, after)
    end
  end
  error("invalid key to 'next'", 2)
end

-- ---- sorting ------------------------------------------------------------------------------------

local function less(a, b) return a < b end

local function merge(from, to, first, middle, last, before)
  local i, j = first, middle + 1
  for k = first, last do
    if i <= middle and (j > last or not before(from[j], from[i])) then
      to[k], i = from[i], i + 1
    else
      to[k], j = from[j], j + 1
    end
  end
end

-- A stable sort (merge sort, bottom up): equal items keep their order.
function same.sort(list, before)
  before = before or less
  local n = #list
  local from, to = table.move(list, 1, n, 1, {}), {}
  local width = 1
  while width < n do
    for first = 1, n, 2 * width do
      merge(from, to, first, math.min(first + width - 1, n), math.min(first + 2 * width - 1, n),
        before)
    end
    from, to, width = to, from, 2 * width
  end
  table.move(from, 1, n, 1, list)
end

-- ---- text ---------------------------------------------------------------------------------------

-- Without addresses: a table is "table", or what its __tostring says, or its __name.
function same.tostring(value)
  local kind = type(value)
  if kind ~= "table" and kind ~= "function" and kind ~= "thread" and kind ~= "userdata" then
    return tostring(value)
  end
  local meta = debug.getmetatable(value)
  if type(meta) == "table" then
    if meta.__tostring then return tostring(value) end
    if type(meta.__name) == "string" then return meta.__name end
  end
  return kind
end

-- string.format, with the above for %s and without %p.
function same.format(format, ...)
  local args, i = table.pack(...), 0
  for spec in tostring(format):gsub("%%%%", ""):gmatch "%%[-+ #0]*%d*%.?%d*(%a)" do
    i = i + 1
    if spec == "p" then error("string.format: %p shows an address, not the same on a resume", 2) end
    if spec == "s" and i <= args.n then args[i] = same.tostring(args[i]) end
  end
  return string.format(format, table.unpack(args, 1, args.n))
end

return same
