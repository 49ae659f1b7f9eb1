-- SPDX-License-Identifier: MIT
-- What a plan's command has of each host: {host.X} and {vars.X} in it become variables of the
-- shell, to which the core gives each host's values, quoted (runtime/host_own.c). A value is never
-- part of the command's text, so it is one word wherever its author names it.
--
--   places.of_command(text, places) -> text        places: those that are known, added to; whole
--                                                  in it: {hosts_file} is the only one
--   places.of_words(argv, places) -> text
--   places.values(places, host, ssh) -> list | nil, why     host: of the inventory; ssh: settings

local json = require "exed.json"
local text = require "exed.text"
local words = require "exed.words"

local places = {}

local HOST <const> = {
  name = function(host) return host.name end,
  address = function(host) return host.address end,
  port = function(host, ssh) return host.port or ssh.port end,
  user = function(host, ssh) return host.user or ssh.user end,
}
local HOST_NAMES <const> = words.keys(HOST)
local HOSTS_FILE <const> = "hosts_file"

local function wrong(format, ...) error({ wrong = format:format(...) }, 0) end

-- The place that begins at that byte: its name, and where it ends; nil when there is none.
local function place_at(given, at, list)
  local stands = list.whole and given:match("^{hosts_file}()", at)
  if stands then return HOSTS_FILE, stands end
  local kind, name, stop = given:match("^{(%l+)%.([%w_]+)}()", at)
  if kind ~= "host" and kind ~= "vars" then return nil end
  if given:sub(at - 1, at - 1) == "$" then return nil end -- the shell's own
  if list.whole then
    wrong("{%s.%s}: one process is run for all hosts; {hosts_file} names them", kind, name)
  end
  if kind == "host" and not HOST[name] then
    wrong("{host.%s}: a host has %s%s", name, table.concat(HOST_NAMES, ", "),
      words.hint(name, HOST_NAMES))
  end
  return kind .. "." .. name, stop
end

-- How a place is named in the shell's text.
local function variable(name, list)
  if name == HOSTS_FILE then return '"$EXED_HOSTS_FILE"' end
  local number = #list + 1
  for i, known in ipairs(list) do
    if known == name then number = i end
  end
  list[number] = name
  return ('"$x_h%d"'):format(number)
end

-- Where a comment ends that begins at that byte; nil when it is none.
local function comment_end(given, at)
  local before = given:sub(at - 1, at - 1)
  if at > 1 and not before:find "[%s;&|(]" then return nil end
  return given:find("\n", at, true) or #given + 1
end

-- Text for sh. Between quotes a place would be two words, so it is refused there.
function places.of_command(given, list)
  local out, quote, from, at = {}, nil, 1, 1
  while true do
    at = given:find("[\\'\"#{]", at)
    if not at then break end
    local byte, after = given:sub(at, at), at + 1
    if byte == "{" then
      local name, stop = place_at(given, at, list)
      if name and quote then
        wrong("command: {%s} stands between quotes: it is quoted already", name)
      end
      if name then
        out[#out + 1] = given:sub(from, at - 1) .. variable(name, list)
        from, after = stop, stop
      end
    elseif byte == "\\" then
      after = quote == "'" and after or at + 2
    elseif byte == "#" then
      after = not quote and comment_end(given, at) or after
    elseif byte == quote then
      quote = nil
    else
      quote = quote or byte
    end
    at = after
  end
  out[#out + 1] = given:sub(from)
  return table.concat(out)
end

local function of_word(word, list)
  local out, from, at = {}, 1, 1
  local function put(last)
    if last >= from then out[#out + 1] = text.quote { word:sub(from, last) } end
  end
  while true do
    at = word:find("{", at, true)
    if not at then break end
    local name, stop = place_at(word, at, list)
    if name then
      put(at - 1)
      out[#out + 1] = variable(name, list)
      from = stop
    end
    at = stop or at + 1
  end
  if #out == 0 then return text.quote { word } end
  put(#word)
  return table.concat(out)
end

-- A list of words.
function places.of_words(argv, list)
  local out = {}
  for i, word in ipairs(argv) do out[i] = of_word(word, list) end
  return table.concat(out, " ")
end

-- ---- values -------------------------------------------------------------------------------------

local function to_text(value)
  if type(value) == "table" then return json.encode(value) end
  return tostring(value)
end

-- In the order of the places. why: what the host lacks.
function places.values(list, host, ssh)
  local values = {}
  for i, place in ipairs(list) do
    local kind, name = place:match "^(%l+)%.(.*)$"
    local value
    if kind == "host" then value = HOST[name](host, ssh) else value = host.vars[name] end
    if value == nil or value == json.null then
      return nil, ("the host has no %s, which the command names"):format(place)
    end
    values[i] = to_text(value)
    if values[i]:find("\0", 1, true) then return nil, place .. " has a NUL byte" end
  end
  return values
end

return places
