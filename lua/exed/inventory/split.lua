-- SPDX-License-Identifier: MIT
-- Splits a host line of an INI inventory into words, as a POSIX shell would: quotes, backslash,
-- and a comment from any unquoted '#' on (also in the middle of a word, as Ansible does it).

local BLANK = { [" "] = true, ["\t"] = true, ["\r"] = true, ["\n"] = true }

-- Reads from the opening quote at `at`; returns the text and the place after the closing quote.
local function quoted(line, at)
  local quote, parts = line:sub(at, at), {}
  local pos = at + 1
  while true do
    local stop = line:find(quote == "'" and "'" or '["\\]', pos)
    if not stop then return nil, "a quote (" .. quote .. ") is not closed" end
    parts[#parts + 1] = line:sub(pos, stop - 1)
    if line:sub(stop, stop) == quote then return table.concat(parts), stop + 1 end
    local escaped = line:sub(stop + 1, stop + 1)
    if escaped == "" then return nil, "nothing follows the backslash" end
    local plain = escaped == quote or escaped == "\\"
    parts[#parts + 1] = plain and escaped or "\\" .. escaped
    pos = stop + 2
  end
end

-- Reads one word from `at`; returns it, the place after it, and true when a comment ends the line.
local function word_at(line, at)
  local parts, pos = {}, at
  while pos <= #line do
    local char = line:sub(pos, pos)
    if BLANK[char] then break end
    if char == "#" then return table.concat(parts), pos, true end
    if char == "'" or char == '"' then
      local text, after = quoted(line, pos)
      if not text then return nil, after end
      parts[#parts + 1], pos = text, after
    elseif char == "\\" then
      if pos == #line then return nil, "nothing follows the backslash" end
      parts[#parts + 1], pos = line:sub(pos + 1, pos + 1), pos + 2
    else
      local stop = line:find("[ \t\r\n#'\"\\]", pos) or #line + 1
      parts[#parts + 1], pos = line:sub(pos, stop - 1), stop
    end
  end
  return table.concat(parts), pos, false
end

-- The words of a line, or nil and what is wrong with it.
local function split(line)
  local found = {}
  if not line:find("[#'\"\\]") then
    for word in line:gmatch("[^ \t\r\n]+") do found[#found + 1] = word end
    return found
  end
  local pos = 1
  while true do
    pos = line:find("[^ \t\r\n]", pos)
    if not pos or line:sub(pos, pos) == "#" then return found end
    local word, after, ended = word_at(line, pos)
    if not word then return nil, after end
    found[#found + 1] = word
    if ended then return found end
    pos = after
  end
end

return split
