-- SPDX-License-Identifier: MIT
-- Lua's text as a list of tokens, for checks that need no parser. A text that does not compile is
-- not for it.
--
--   local list = tokens.scan(text)
--   list[i].kind    "name", "keyword", "string", "number", "op"
--   list[i].text    as written; of a string what it holds (escapes as they are)
--   list[i].line
--   list[i].close   of ( [ { and of what opens a block (function do then repeat else elseif): the
--                   place of what ends it; of that, open is the place of the opener
--   list.allowed[LINE]   true where a comment says `check: ok`

local tokens = {}

local KEYWORDS <const> = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch "%a+" do
  KEYWORDS[word] = true
end

local LONG_OPS <const> = { "^%.%.%.", "^%.%.", "^==", "^~=", "^<=", "^>=", "^//", "^::", "^<<",
  "^>>" }

local function newlines(text)
  local _, n = text:gsub("\n", "")
  return n
end

-- The end of a long bracket that begins at `at`, and where its inside begins; nil when none does.
local function long_bracket(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local first = at + #level + 2
  local _, last = text:find("]" .. level .. "]", first, true)
  return last or #text, first, #level + 2
end

local function comment(text, at)
  local last = long_bracket(text, at + 2)
  if last then return last end
  local stop = text:find("\n", at, true)
  return stop and stop - 1 or #text
end

-- The end of a string in quotes.
local function quoted(text, at)
  local quote, i = text:sub(at, at), at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == "\\" then
      i = i + 1
    elseif c == quote then
      return i
    end
    i = i + 1
  end
  return #text
end

local function operator(text, at)
  for _, pattern in ipairs(LONG_OPS) do
    local _, last = text:find(pattern, at)
    if last then return last end
  end
  return at
end

-- One token at `at`. Returns its kind, the text of it and its last byte.
local function one(text, at)
  local c = text:sub(at, at)
  if c:find "[%a_]" then
    local word = text:match("^[%w_]+", at)
    return KEYWORDS[word] and "keyword" or "name", word, at + #word - 1
  elseif c:find "%d" or text:find("^%.%d", at) then
    local number = text:match("^0[xX][%x.]*[pP]?[+-]?%x*", at)
      or text:match("^[%d.]+[eE]?[+-]?%d*", at)
    return "number", number, at + #number - 1
  elseif c == '"' or c == "'" then
    local last = quoted(text, at)
    return "string", text:sub(at + 1, last - 1), last
  end
  local last, first, tail = long_bracket(text, at)
  if last then return "string", text:sub(first, last - tail), last end
  last = operator(text, at)
  return "op", text:sub(at, last), last
end

-- ---- what belongs together ----------------------------------------------------------------------

local BRACKETS <const> = { ["("] = ")", ["["] = "]", ["{"] = "}" }
local CLOSERS <const> = { [")"] = true, ["]"] = true, ["}"] = true }
local OPENERS <const> = { ["function"] = true, ["do"] = true, ["then"] = true, ["repeat"] = true,
  ["else"] = true }
local ENDERS <const> = { ["end"] = true, ["until"] = true, ["else"] = true, ["elseif"] = true }

local function match(list)
  local stack = {}
  local function close(i)
    local open = table.remove(stack)
    if not open then return end
    list[open].close, list[i].open = i, open
  end
  for i, token in ipairs(list) do
    local word = (token.kind == "op" or token.kind == "keyword") and token.text
    if word and (CLOSERS[word] or ENDERS[word]) then close(i) end
    if word and (BRACKETS[word] or OPENERS[word]) then stack[#stack + 1] = i end
  end
  return list
end

function tokens.scan(text)
  local list, at, line = { allowed = {} }, 1, 1
  if text:find "^#" then at = (text:find("\n", 1, true) or #text) end
  while at <= #text do
    local blank = text:match("^%s+", at)
    if blank then
      line, at = line + newlines(blank), at + #blank
    elseif text:find("^%-%-", at) then
      local last = comment(text, at)
      local said = text:sub(at, last)
      if said:find "check: ok" then list.allowed[line] = true end
      line, at = line + newlines(said), last + 1
    else
      local kind, found, last = one(text, at)
      list[#list + 1] = { kind = kind, text = found, line = line }
      line, at = line + newlines(text:sub(at, last)), last + 1
    end
  end
  return match(list)
end

return tokens
