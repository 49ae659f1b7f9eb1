-- SPDX-License-Identifier: MIT
-- Shell globs: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`. Matching takes at most length of the name times
-- length of the glob steps, whatever the glob is (Lua's own patterns may take far longer).

local glob = {}

local ANY, STAR = {}, {}

-- The bytes between the brackets as a set.
local function class(body)
  local negated = body:sub(1, 1) == "!"
  if negated then body = body:sub(2) end
  local set, pos = {}, 1
  while pos <= #body do
    local first, last = body:byte(pos), body:byte(pos)
    if body:sub(pos + 1, pos + 1) == "-" and pos + 2 <= #body then
      last, pos = body:byte(pos + 2), pos + 2
    end
    for byte = first, last do set[byte] = true end
    pos = pos + 1
  end
  return { set = set, negated = negated }
end

-- True when the text has a character that makes it a glob.
function glob.is_glob(text) return text:find("[*?%[]") ~= nil end

-- Reads a glob into the list that glob.matches takes. A '[' without ']' is a plain character.
function glob.compile(text)
  local parts, pos = {}, 1
  while pos <= #text do
    local char = text:sub(pos, pos)
    local close = char == "[" and text:find("]", pos + (text:find("^%[!", pos) and 3 or 2), true)
    if char == "*" then
      if parts[#parts] ~= STAR then parts[#parts + 1] = STAR end
    elseif char == "?" then
      parts[#parts + 1] = ANY
    elseif close then
      parts[#parts + 1] = class(text:sub(pos + 1, close - 1))
      pos = close
    else
      parts[#parts + 1] = char:byte()
    end
    pos = pos + 1
  end
  parts.prefix = text:match "^[^*?%[]*"
  parts.only_prefix = #parts == #parts.prefix + 1 and parts[#parts] == STAR
  return parts
end

local function fits(part, byte)
  if part == ANY then return byte ~= nil end
  if type(part) == "number" then return part == byte end
  return byte ~= nil and (part.set[byte] == true) ~= part.negated
end

-- True when the whole name fits the compiled glob.
function glob.matches(parts, name)
  local prefix = parts.prefix
  if name:sub(1, #prefix) ~= prefix then return false end
  if parts.only_prefix then return true end
  local at, pos = #prefix + 1, #prefix + 1
  local star, resume
  while pos <= #name do
    local part = parts[at]
    if part == STAR then
      star, resume, at = at, pos, at + 1
    elseif part ~= nil and fits(part, name:byte(pos)) then
      at, pos = at + 1, pos + 1
    elseif star then
      resume = resume + 1
      at, pos = star + 1, resume
    else
      return false
    end
  end
  while parts[at] == STAR do at = at + 1 end
  return parts[at] == nil
end

return glob
