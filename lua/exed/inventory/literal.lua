-- SPDX-License-Identifier: MIT
-- Reads the value of a key=value pair as Ansible does: a Python literal (number, text in quotes,
-- True, False, None, list, tuple, dict, set) becomes that value; anything else stays text.

local value = require "exed.inventory.value"

local MAX_DEPTH = 32 -- brackets within brackets; deeper ones stay text

local ESCAPES = {
  n = "\n", t = "\t", r = "\r", a = "\a", b = "\b", f = "\f", v = "\v",
  ["\\"] = "\\", ["'"] = "'", ['"'] = '"',
}
local NAMES = { True = true, False = false }
local HEX_ESCAPES = { x = 2, u = 4, U = 8 }

local NO = {} -- raised where the text is no literal
local function refuse() error(NO, 0) end

local function skip(state)
  state.pos = state.text:find("[^ \t\r\n]", state.pos) or #state.text + 1
  return state.text:sub(state.pos, state.pos)
end

-- One escape of a quoted text; `at` is the character after the backslash.
local function escape(text, at)
  local char = text:sub(at, at)
  if ESCAPES[char] then return ESCAPES[char], at + 1 end
  local octal = text:match("^[0-7][0-7]?[0-7]?", at)
  if octal then return utf8.char(tonumber(octal, 8)), at + #octal end
  local digits = HEX_ESCAPES[char]
  if not digits then
    if char == "N" then refuse() end
    return "\\" .. char, at + 1
  end
  local hex = text:sub(at + 1, at + digits)
  if #hex ~= digits or hex:find "%X" then refuse() end
  local code = tonumber(hex, 16)
  if code > 0x10FFFF then refuse() end
  return utf8.char(code), at + 1 + digits
end

local function string_literal(state, raw)
  local text = state.text
  local quote = text:sub(state.pos, state.pos)
  local parts, pos = {}, state.pos + 1
  if text:sub(state.pos, state.pos + 2) == quote:rep(3) then refuse() end
  while true do
    local stop = text:find("[\\" .. quote .. "\n]", pos)
    if not stop or text:sub(stop, stop) == "\n" then refuse() end
    parts[#parts + 1] = text:sub(pos, stop - 1)
    if text:sub(stop, stop) == quote then
      state.pos = stop + 1
      return table.concat(parts)
    end
    if stop == #text then refuse() end
    if raw then
      parts[#parts + 1], pos = text:sub(stop, stop + 1), stop + 2
    else
      parts[#parts + 1], pos = escape(text, stop + 1)
    end
  end
end

-- Digits with single underscores between them, without these; nil when they are misplaced.
local function digits_of(text)
  if text:find("__", 1, true) or text:find "^_" or text:find "_$" then return nil end
  return (text:gsub("_", ""))
end

local function based(text, base)
  local digits = digits_of((text:sub(3):gsub("^_", "")))
  local number = digits and tonumber(digits, base)
  if not number or #digits > (base == 2 and 63 or base == 8 and 20 or 15) then refuse() end
  return number
end

local BASES = { x = 16, o = 8, b = 2 }

local function number_literal(state)
  local text = state.text:match("^[%w_.]+", state.pos)
  local tail = state.text:match("^[%w_.]*[eE][+-][%w_]+", state.pos)
  if tail and not tail:find "^0[xX]" then text = tail end
  if not text then refuse() end
  state.pos = state.pos + #text
  local base = BASES[(text:match "^0([xXoObB])" or ""):lower()]
  if base then return based(text, base) end
  local plain = {}
  for part, mark in text:gmatch "([^.eE+-]*)([.eE+-]*)" do
    local digits = part == "" and "" or digits_of(part)
    if not digits or digits:find "%D" then refuse() end
    plain[#plain + 1] = digits .. mark
  end
  local joined = table.concat(plain)
  if joined:find "^%d+$" then
    if joined:find "^0" and joined:find "[^0]" then refuse() end
    return math.tointeger(tonumber(joined)) or refuse()
  end
  local number = joined:find "%d" and tonumber(joined)
  return number and number + 0.0 or refuse()
end

local literal

local function items(state, close, depth, read)
  state.pos = state.pos + 1
  local comma = false
  while skip(state) ~= close do
    read(depth + 1)
    local char = skip(state)
    if char == "," then
      state.pos, comma = state.pos + 1, true
    elseif char ~= close then
      refuse()
    end
  end
  state.pos = state.pos + 1
  return comma
end

local function list_literal(state, close, depth)
  local list = value.array {}
  local comma = items(state, close, depth, function(level)
    list[#list + 1] = literal(state, level)
  end)
  if close == ")" and #list == 1 and not comma then return list[1] end
  return list
end

local function dict_literal(state, depth)
  local dict, list = {}, value.array {}
  items(state, "}", depth, function(level)
    local key = literal(state, level)
    if type(key) == "table" or key ~= key then refuse() end
    if skip(state) == ":" then
      state.pos = state.pos + 1
      dict[key] = literal(state, level)
    else
      list[#list + 1] = key
    end
  end)
  if #list == 0 then return dict end
  return next(dict) == nil and list or refuse()
end

local function name_literal(state)
  local prefix = state.text:match("^[uUbBrR]+()['\"]", state.pos)
  if prefix then
    local letters = state.text:sub(state.pos, prefix - 1):lower()
    if not ({ u = true, b = true, r = true, br = true, rb = true })[letters] then refuse() end
    state.pos = prefix
    return string_literal(state, letters:find("r", 1, true) ~= nil)
  end
  local name = state.text:match("^[%a_][%w_]*", state.pos)
  if not name or (NAMES[name] == nil and name ~= "None") then refuse() end
  state.pos = state.pos + #name
  if name == "None" then return value.null end
  return NAMES[name]
end

local function quoted_run(state, first)
  local text = first
  while true do
    local char = skip(state)
    if char == "'" or char == '"' then
      text = text .. string_literal(state, false)
    elseif state.text:find("^[uUbBrR]+['\"]", state.pos) then
      text = text .. name_literal(state)
    else
      return text
    end
  end
end

function literal(state, depth)
  if depth > MAX_DEPTH then refuse() end
  local char = skip(state)
  if char == "[" then return list_literal(state, "]", depth) end
  if char == "(" then return list_literal(state, ")", depth) end
  if char == "{" then return dict_literal(state, depth) end
  if char == "'" or char == '"' then return quoted_run(state, string_literal(state, false)) end
  if char == "-" or char == "+" then
    state.pos = state.pos + 1
    if not skip(state):find "[%d.]" then refuse() end
    local number = number_literal(state)
    return char == "-" and -number or number
  end
  if char:find "[%d.]" then return number_literal(state) end
  local found = name_literal(state)
  return type(found) == "string" and quoted_run(state, found) or found
end

-- The whole text as one literal; a bare "a, b" is a tuple; a comment may follow.
local function whole(text)
  local state = { text = text, pos = 1 }
  local first = literal(state, 1)
  local char = skip(state)
  if char == "," then
    local list = value.array { first }
    while char == "," do
      state.pos = state.pos + 1
      char = skip(state)
      if char == "" or char == "#" then break end
      list[#list + 1] = literal(state, 1)
      char = skip(state)
    end
    first = list
  end
  if char ~= "" and char ~= "#" then refuse() end
  return first
end

-- The value of `text`: a literal, or the text itself.
local function parse(text)
  if text:find "^%a[%w_./-]*$" and NAMES[text] == nil and text ~= "None" then return text end
  if text:find "^[1-9]%d*$" and #text < 19 then return math.tointeger(tonumber(text)) end
  if not text:find "^[ \t]*[%d%.%[%({'\"uUbBrRTFN+-]" then return text end
  local ok, found = pcall(whole, text)
  if ok then return found end
  if found ~= NO then error(found, 0) end
  return text
end

return parse
