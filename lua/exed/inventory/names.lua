-- SPDX-License-Identifier: MIT
-- What host names, addresses, users and ports look like, and how a range in a name is expanded.
-- Each function returns its answer, or nil and what is wrong, for a message.

local names = {}

local MAX_NAME = 253
local LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

-- True when the text has the form of an IPv6 address (parts of hex digits, or a "::").
-- With `loose`, a part may also hold a range or a glob.
function names.is_ipv6(text, loose)
  local plain = loose and text:gsub("%[[^%]]*%]", "0"):gsub("[*?]", "0") or text
  if plain:find("[^%x:.]") or plain:find(":::", 1, true) then return false end
  local _, colons = plain:gsub(":", "")
  local _, doubles = plain:gsub("::", "")
  if doubles > 1 or colons < 2 or colons > 8 then return false end
  local head, tail = plain:match("^(.*:)([^:]*%.[^:]*)$")
  local want = 7
  if head then
    if not tail:find("^%d+%.%d+%.%d+%.%d+$") then return false end
    plain, want = head .. "0", 6
  end
  if plain:find(".", 1, true) then return false end
  if doubles == 0 and colons ~= want then return false end
  if plain:find("^:[^:]") or plain:find("[^:]:$") then return false end
  local parts = 0
  for part in plain:gmatch("[^:]+") do
    if #part > 4 and not loose then return false end
    parts = parts + 1
  end
  return doubles == 0 or parts < want
end

-- Checks a host name as the inventory has it.
function names.check_host(name)
  if name == "" then return nil, "a host name is empty" end
  if #name > MAX_NAME then
    return nil, ("a host name has %d characters, at most %d are allowed"):format(#name, MAX_NAME)
  end
  if name:find("^%-") then return nil, "a host name must not begin with '-'" end
  if name:find(":", 1, true) then
    if names.is_ipv6(name) then return true end
    return nil, "':' is only for a port (name:22) or in an IPv6 address"
  end
  if not name:find("^[%w._-]+$") then
    return nil, "a host name is made of letters, digits, '.', '_' and '-'"
  end
  if name:find("^%.") or name:find("..", 1, true) then
    return nil, "a host name must not begin with '.' nor have two dots in a row"
  end
  return true
end

-- Checks an address to connect to: as a host name, or IPv6 with a zone (fe80::1%eth0).
function names.check_address(text)
  local base, zone = text:match("^([^%%]*)%%([%w._-]+)$")
  if base and zone and names.is_ipv6(base) then return true end
  if text:find("[%[%]]") then return nil, "an address is written without brackets" end
  local ok, problem = names.check_host(text)
  if ok then return true end
  return nil, (problem:gsub("host name", "host name or address"))
end

-- Checks the name of a user to log in as.
function names.check_user(text)
  if text:find("^[%w_.][%w_.@+$\\-]*$") and #text <= 128 then return true end
  return nil, "a user is made of letters, digits and _ . @ + $ \\ -, and must not begin with '-'"
end

-- A port as an integer from 1 to 65535.
function names.to_port(text)
  local port = math.tointeger(tonumber(text))
  if port and port >= 1 and port <= 65535 and not tostring(text):find("[^%d]") then return port end
  return nil, "a port is a number from 1 to 65535"
end

-- Takes a port off a host pattern: `web:22`, `[::1]:22`, `[::1]`, `web[1:3]:22`.
-- Returns the name and the port (or nil); nil, nil and the problem when the port is wrong.
function names.split_port(text)
  local inner, port = text:match("^%[([^%[%]]*)%]:(%d+)$")
  if inner and (names.is_ipv6(inner) or not inner:find(":", 1, true)) then
    local number, problem = names.to_port(port)
    if not number then return nil, nil, problem end
    return inner, number
  end
  inner = text:match("^%[([^%[%]]*)%]$")
  if inner and names.is_ipv6(inner) then return inner end
  local outside = text:gsub("%[[^%]]*%]", "")
  local _, colons = outside:gsub(":", "")
  if colons ~= 1 then return text end
  local name, digits = text:match("^(.*):([^:%]]*)$")
  if not name then return text end
  local number, problem = names.to_port(digits)
  if not number then return nil, nil, problem end
  return name, number
end

-- Reads the bounds of one range; returns a list of its texts.
local function sequence(range, limit)
  local first, last, step = range:match("^([^:]*):([^:]*):?([^:]*)$")
  if not first or (step == "" and range:find(":.*:")) then
    return nil, "a range is [first:last] or [first:last:step]"
  end
  if last == "" then return nil, "a range needs its last value: [1:20]" end
  local by = step == "" and 1 or (step:find("^%d+$") and #step < 10 and tonumber(step))
  if not by or by < 1 then return nil, "the step of a range is a number from 1 on" end
  if first:find("^%a$") and last:find("^%a$") then
    local from, to = LETTERS:find(first, 1, true), LETTERS:find(last, 1, true)
    if from > to then return nil, "a range begins with its smaller value: [a:z]" end
    local list = {}
    for i = from, to, by do list[#list + 1] = LETTERS:sub(i, i) end
    return list
  end
  if first == "" then first = "0" end
  if not (first:find("^%d+$") and last:find("^%d+$")) or #first > 15 or #last > 15 then
    return nil, "a range has two numbers or two letters: [01:20], [a:z]"
  end
  local padded = first:find("^0.")
  if padded and #first ~= #last then
    return nil, "both ends of a zero-padded range have the same length: [01:20]"
  end
  local from, to = tonumber(first), tonumber(last)
  if from > to then return nil, "a range begins with its smaller value: [1:20]" end
  if (to - from) // by >= limit then return nil, "a range gives too many names" end
  local list, form = {}, padded and "%0" .. #first .. "d" or "%d"
  for i = from, to, by do list[#list + 1] = form:format(i) end
  return list
end

-- Reads numbers as exed-run folds them: 01-03,07. Returns a list of their texts.
local function folded(inside, limit)
  local list = {}
  for item in inside:gmatch "[^,]+" do
    local first, last = item:match "^(%d+)%-(%d+)$"
    first, last = first or item:match "^%d+$", last or item
    if not first then return nil, "numbers in brackets are written [01-03,07]" end
    local more, problem = sequence(first .. ":" .. last, limit - #list)
    if not more then return nil, problem end
    table.move(more, 1, #more, #list + 1, list)
  end
  return list
end

-- Whether this is what exed-run writes into brackets. One digit to another is a glob, too, which
-- names the same hosts.
function names.is_folded(inside)
  return inside:find "^%d[%d,-]*$" and inside:find "[,-]" and not inside:find "^%d%-%d$" and true
    or false
end

-- The names that a text with ranges stands for, the last range counting fastest. A text without
-- '[' is its own only name. `limit` bounds the number of names. With `fold`, a bracket may also be
-- as exed-run writes it: web[01-03,07].
function names.expand(text, limit, fold)
  local done = { "" }
  local pos = 1
  while true do
    local open = text:find("[", pos, true)
    local plain = text:sub(pos, (open or 0) - 1)
    if plain:find("]", 1, true) then return nil, "a ']' without '['" end
    if not open then
      for i, head in ipairs(done) do done[i] = head .. plain end
      return done
    end
    local close = text:find("]", open, true)
    if not close then return nil, "a '[' without ']'" end
    local inside = text:sub(open + 1, close - 1)
    local read = fold and inside:find "^%d[%d,-]*$" and folded or sequence
    local list, problem = read(inside, limit)
    if not list then return nil, problem end
    if #done * #list > limit then
      return nil, ("a range gives too many names, at most %d are allowed"):format(limit)
    end
    local longer = {}
    for _, head in ipairs(done) do
      for _, part in ipairs(list) do longer[#longer + 1] = head .. plain .. part end
    end
    done, pos = longer, close + 1
  end
end

return names
