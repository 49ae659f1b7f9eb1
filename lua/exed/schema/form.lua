-- SPDX-License-Identifier: MIT
-- A Lua pattern in words, for messages: "^[%w_][%w._-]*$" is "a letter, a digit or _, then letters,
-- digits and . _ -".

local form = {}

-- What a class of one character is called, one and many of it.
local CLASSES <const> = {
  a = { "a letter", "letters" },
  d = { "a digit", "digits" }, x = { "a hex digit", "hex digits" },
  l = { "a small letter", "small letters" }, u = { "a capital letter", "capital letters" },
  s = { "a blank", "blanks" }, c = { "a control character", "control characters" },
  p = { "a punctuation mark", "punctuation marks" },
}
local ANY <const> = { "any character", "any characters" }
local COUNTS <const> = { ["*"] = { 0 }, ["+"] = { 1 }, ["-"] = { 0 }, ["?"] = { 0, 1 } }

-- Adds a member of a set at `at`: a class, a range or a character. Returns the place after it; nil
-- for what has no words.
local function add_member(set, text, at)
  local from, to = text:match("^([%w])%-([%w])", at)
  if from then
    table.insert(set.names, { ("one of %s to %s"):format(from, to), ("%s to %s"):format(from, to) })
    return at + 3
  end
  local letter, size = text:sub(at, at), 1
  if letter == "%" then
    letter, size = text:sub(at + 1, at + 1), 2
    for class in (letter == "w" and "ad" or letter):gmatch "." do
      table.insert(set.names, CLASSES[class])
    end
    if letter == "w" or CLASSES[letter] then return at + 2 end
    if letter == "" or letter:find "%w" then return nil end
  end
  table.insert(set.characters, letter)
  return at + size
end

local function read_set(text, at)
  local set = { names = {}, characters = {}, negated = text:sub(at + 1, at + 1) == "^" }
  at = at + (set.negated and 2 or 1)
  repeat
    at = add_member(set, text, at)
  until not at or at > #text or text:sub(at, at) == "]"
  if not at or at > #text then return nil end
  return set, at + 1
end

local function read_item(text, at)
  local letter = text:sub(at, at)
  if letter == "[" then return read_set(text, at) end
  if letter == "." then return { names = { ANY }, characters = {} }, at + 1 end
  if letter == "(" or letter == ")" then return nil end
  local set = { names = {}, characters = {} }
  at = add_member(set, text, at)
  return set, at
end

local function join(parts, word)
  local last = #parts > 1 and table.remove(parts)
  return table.concat(parts, ", ") .. (last and " " .. word .. " " .. last or "")
end

local function say(set, many)
  local parts, one_of = {}, not many and #set.characters > 1 and "one of " or ""
  for i, name in ipairs(set.names) do parts[i] = name[many and 2 or 1] end
  if #set.characters > 0 then
    parts[#parts + 1] = one_of .. table.concat(set.characters, " ")
  end
  local text = join(parts, many and "and" or "or")
  return set.negated and "anything but " .. text or text
end

-- How often its set comes: { set, least, most (nil: any number) }.
local function add_run(runs, set, least, most)
  local last, many = runs[#runs], say(set, true)
  if last and last.many == many and last.most and most then
    last.least, last.most = last.least + least, last.most + most
  else
    runs[#runs + 1] = { set = set, many = many, least = least, most = most }
  end
end

local function say_run(run)
  if not run.most then return run.many end
  if run.most > 1 and run.least == run.most then return ("%d of %s"):format(run.most, run.many) end
  if run.most > 1 then return ("%d to %d of %s"):format(run.least, run.most, run.many) end
  return (run.least == 0 and "perhaps " or "") .. say(run.set, false)
end

-- What a whole text must be to fit the pattern; nil for one that cannot be said so.
function form.describe(pattern)
  local text = pattern:gsub("^%^", ""):gsub("([^%%])%$$", "%1")
  local runs, at, parts = {}, 1, {}
  while at <= #text do
    local set
    set, at = read_item(text, at)
    if not at then return nil end
    local count = COUNTS[text:sub(at, at)]
    add_run(runs, set, count and count[1] or 1, not count and 1 or count[2])
    at = at + (count and 1 or 0)
  end
  for i, run in ipairs(runs) do parts[i] = say_run(run) end
  return #parts > 0 and table.concat(parts, ", then ") or nil
end

return form
