-- SPDX-License-Identifier: MIT
-- Inventory patterns, as Ansible has them:
--   web01  web*  web?[12]  group  all  *      a host, a glob over hosts and groups, a group
--   web:db  web,db      both           web:&prod   only those that are also in prod
--   web:!web01          without        web[01:20]  names in a range (also [a:d], with a step)
--   web[01-03,07]                      names as exed-run folds them
--   web[0] web[-1] web[0:2] web[1:]    by place in a group or among the hosts of a glob
-- An exact host name wins over all other meanings. `[2]` or `[1:3]` at the end, after something
-- that names hosts, is by place; with leading zeros ([01:03]) it is a range of names when one of
-- these is a host, and [1-3] is one when all of them are. After something that names nothing it is
-- a range or a part of a glob.
--   ~(web|db)\d+               a regular expression over hosts and groups, from the start of a name
-- Differs from Ansible: names in ranges, ':' within a comma list, IPv6 addresses between ':', ':'
-- in the brackets of a regular expression, no implicit localhost, and places count each host once.

local glob = require "exed.glob"
local names = require "exed.inventory.names"
local split = require "exed.pattern.split"
local words = require "exed.words"

local pattern = {}

-- Limits of one request, so that a pattern cannot hold the loop.
local MAX_NAMES = 100000 -- names that ranges give
local MAX_WORK = 1000000 -- hosts looked at, over all parts
local MAX_SECONDS = 0.25 -- of the processor, for regular expressions
local SECONDS_EVERY = 256 -- names between two looks at the clock

local function refuse(text, ...)
  error({ code = "bad_request", message = text:format(...) }, 0)
end

local function charge(state, steps)
  state.work = state.work + steps
  if state.work > MAX_WORK then
    refuse("the pattern takes too much work (more than %d hosts looked at): "
      .. "use fewer globs and groups", MAX_WORK)
  end
end

-- A function that says whether a name fits a regular expression. All of one request have the same
-- bound of time, and each name one of its own.
local function regex_fit(state, text)
  local found, err = require("exed.regex").compile(text:sub(2))
  if not found then
    refuse("bad pattern %s: the regular expression is wrong: %s", words.show(text), err.message)
  end
  local names_seen = 0
  return function(name)
    names_seen = names_seen + 1
    state.regex_since = state.regex_since or os.clock()
    if names_seen % SECONDS_EVERY == 0 and os.clock() - state.regex_since > MAX_SECONDS then
      refuse("bad pattern %s: the regular expression takes too much work", words.show(text))
    end
    local fits, problem = found:match(name)
    if problem then
      refuse("bad pattern %s: the regular expression is too costly: %s", words.show(text),
        problem.message)
    end
    return fits
  end
end

local function is_regex(text) return text:find "^~" ~= nil end

-- A function that says whether a name fits a glob or a regular expression.
local function fit_of(state, text)
  if is_regex(text) then return regex_fit(state, text) end
  local parts = glob.compile(text)
  return function(name) return glob.matches(parts, name) end
end

-- The hosts of the groups that fit, then those whose own name does; true when a group fits; true
-- when these are all hosts, each once.
local function match_names(state, text)
  local inventory, fits, found = state.inventory, fit_of(state, text), {}
  charge(state, #inventory.order + #inventory.hosts)
  local any_group = false
  for _, name in ipairs(inventory.order) do
    if fits(name) then
      any_group = true
      local members = inventory:members(name)
      charge(state, #members)
      -- What comes behind a group of all hosts adds none.
      if #found == 0 and #members == #inventory.hosts then return members, true, true end
      table.move(members, 1, #members, #found + 1, found)
    end
  end
  for _, host in ipairs(inventory.hosts) do
    if fits(host.name) then found[#found + 1] = host end
  end
  return found, any_group
end

local function unique(list)
  local kept, has = {}, {}
  for _, host in ipairs(list) do
    if not has[host] then
      has[host] = true
      kept[#kept + 1] = host
    end
  end
  return kept
end

-- The hosts that a name or glob stands for, in order; nil when nothing has that name.
local function enumerate(state, text)
  local inventory = state.inventory
  if not is_regex(text) and not glob.is_glob(text) then
    local members, host = inventory:members(text), inventory.by_name[text]
    if not members then return host and { host } end
    charge(state, #members)
    return members
  end
  local found, any_group, is_whole = match_names(state, text)
  if #found == 0 and not any_group then return nil end
  return is_whole and found or unique(found)
end

-- Reads `name[2]`, `name[-1]`, `name[0:2]`, `name[1:]`, `name[:2]`: returns the name and the first
-- and last place, counted from 0 (last: nil for one place, -1 for the end); nil for other forms.
local function subscript(text)
  local base, inside = text:match "^(.+)%[([%d:-]+)%]$"
  if not base then return nil end
  if inside:find "^%-?%d+$" then return base, tonumber(inside) end
  local first, last = inside:match "^(%d*)[:-](%d*)$"
  if not first or (first == "" and last == "") then return nil end
  return base, tonumber(first) or 0, tonumber(last) or -1
end

local function take(list, first, last)
  if not last then
    local place = first < 0 and #list + first or first
    return { list[place + 1] }
  end
  if last == -1 or last >= #list then last = #list - 1 end
  return table.move(list, first + 1, last + 1, 1, {})
end

-- True when the text has a range of names in brackets.
local function has_range(text)
  for inside in text:gmatch "%[([^%]]*)%]" do
    if names.is_folded(inside) or inside:find "^%d+:%d+$" or inside:find "^%d+:%d+:%d+$"
      or inside:find "^%a:%a$" or inside:find "^%a:%a:%d+$" then
      return true
    end
  end
  return false
end

-- Ranges are expanded, other brackets are kept for the glob; not so when all of them are ranges.
local function range_names(state, text, all)
  local kept, masked = {}, text:gsub("%[([^%]]*)%]", function(inside)
    if all or has_range("[" .. inside .. "]") then return nil end
    return "\1" .. inside .. "\2"
  end)
  local list, problem = names.expand(masked, MAX_NAMES, true)
  if not list then refuse("bad pattern %s: %s", words.show(text), problem) end
  state.names = state.names + #list
  if state.names > MAX_NAMES then
    refuse("the pattern's ranges give more than %d names", MAX_NAMES)
  end
  if not masked:find "\1" then return list end
  for i, name in ipairs(list) do
    kept[i] = name:find "\1" and name:gsub("\1", "["):gsub("\2", "]") or name
  end
  return kept
end

-- The hosts of all names in a range, and the names that name nothing.
local function match_range(state, text, all)
  local found, unknown = {}, {}
  local by_name, groups = state.inventory.by_name, state.inventory.groups
  for _, name in ipairs(range_names(state, text, all)) do
    local host = not groups[name] and by_name[name]
    local hosts = not host and enumerate(state, name)
    if host then
      found[#found + 1] = host
    elseif not hosts or #hosts == 0 then
      unknown[#unknown + 1] = name
    elseif #hosts == 1 then
      found[#found + 1] = hosts[1]
    else
      table.move(hosts, 1, #hosts, #found + 1, found)
    end
  end
  return unique(found), unknown
end

-- What ends in places that are rather names: [01:03] when one of these is a host, [1-3] when all
-- are. Returns their hosts and the unknown names; nil when it is by place.
local function by_name_first(state, text, base)
  local first, sign, last = text:match "%[(%d+)([:-])(%d+)%]$"
  local padded = first and first:find "^0%d"
  if not first or glob.is_glob(base) or not padded and sign == ":" then return nil end
  if sign == "-" then
    local count = tonumber(last) - tonumber(first) + 1
    if count < 1 or count > #state.inventory.hosts or padded and #first ~= #last then return nil end
  end
  local found, unknown = match_range(state, text, true)
  if #found > 0 and (padded or #unknown == 0) then return found, unknown end
end

-- The hosts of one pattern without operator, and a list of what in it names nothing.
local function match_one(state, text)
  if is_regex(text) then
    local list = enumerate(state, text)
    return list or {}, not list and { text } or {}
  end
  local inner = text:match "^%[(.*)%]$"
  if inner and names.is_ipv6(inner) then text = inner end
  local ranged = has_range(text)
  local base, first, last = subscript(text)
  if base then
    local found, unknown = by_name_first(state, text, base)
    if found then return found, unknown end
    local list = enumerate(state, base)
    if list and #list > 0 then
      local taken = take(list, first, last)
      return taken, #taken == 0 and { text } or {}
    end
  end
  if ranged then return match_range(state, text) end
  local list = enumerate(state, text)
  return list or {}, (not list or #list == 0) and { text } or {}
end

-- Adds one single pattern to those that are gathered, by its operator.
local function sort_part(state, part)
  local operator, text = part:match "^([!&]?)%s*(.*)$"
  if text == "" then refuse("bad pattern: nothing follows the '%s'", operator) end
  if text == "~" then refuse("bad pattern: nothing follows the '~'") end
  if text:find "^~.*{%d*$" then
    refuse("bad pattern %s: a ',' separates patterns, also in a regular expression: "
      .. "write x{1}x? for x{1,2}", words.show(text))
  end
  local list = operator == "" and state.plain or operator == "&" and state.both or state.without
  list[#list + 1] = text
end

-- Each list has a host once.
local function add_hosts(state, list)
  if #state.plain == 1 then
    state.found = table.move(list, 1, #list, 1, {})
    return
  end
  for _, host in ipairs(list) do
    if not state.has[host] then
      state.has[host] = true
      state.found[#state.found + 1] = host
    end
  end
end

-- Keeps of the found hosts those that are (wanted true) or are not in the set.
local function keep(state, set, wanted)
  local kept = {}
  charge(state, #state.found)
  for _, host in ipairs(state.found) do
    if (set[host] == true) == wanted then kept[#kept + 1] = host end
  end
  state.found = kept
end

local function add_to(set, list)
  for _, host in ipairs(list) do set[host] = true end
  return set
end

local function note_unknown(state, list, prefix)
  for _, name in ipairs(list) do
    local shown = prefix .. name
    if not state.noted[shown] then
      state.noted[shown] = true
      state.unknown[#state.unknown + 1] = shown
    end
  end
end

-- The hosts of an operand of & or !. A name that names nothing is noted: it may be a mistake that
-- makes the job larger than it should be.
local function operand(state, text, operator)
  local found, unknown = match_one(state, text)
  if not is_regex(text) and not glob.is_glob(text) and not state.inventory.groups[text] then
    note_unknown(state, unknown, operator)
  end
  return found
end

-- Plain patterns first, then each &, then each !, whatever their order in the text.
local function evaluate(state)
  local inventory = state.inventory
  if #state.plain == 0 and #state.both + #state.without > 0 then state.plain = { "all" } end
  for _, text in ipairs(state.plain) do
    local host = inventory.by_name[text]
    if host then
      add_hosts(state, { host })
    else
      local found, unknown = match_one(state, text)
      add_hosts(state, found)
      note_unknown(state, unknown, "")
    end
  end
  for _, text in ipairs(state.both) do
    keep(state, add_to({}, operand(state, text, "&")), true)
  end
  local out = {}
  for _, text in ipairs(state.without) do add_to(out, operand(state, text, "!")) end
  if next(out) then keep(state, out, false) end
end

local function run(inventory, texts)
  local state = {
    inventory = inventory, plain = {}, both = {}, without = {}, work = 0, names = 0,
    found = {}, has = {}, unknown = {}, noted = {},
  }
  for _, text in ipairs(texts) do
    if inventory.by_name[text] then
      state.plain[#state.plain + 1] = text
    else
      split(inventory, text, refuse, function(part) sort_part(state, part) end)
    end
  end
  evaluate(state)
  return state
end

local function guarded(inventory, texts)
  local ok, state = pcall(run, inventory, texts)
  if ok then return state end
  if type(state) == "table" and state.code then return nil, state end
  error(state, 0)
end

-- The hosts that a pattern (text) names: a new list, each host once, in the order in which the
-- pattern and the inventory name them. Empty when it names none. nil and an error (code
-- "bad_request") when the pattern is wrong.
function pattern.match(inventory, text)
  local state, err = guarded(inventory, { text })
  if not state then return nil, err end
  return state.found
end

-- The hosts of a list that has only names of hosts, each once; nil when something else is in it.
local function by_names(inventory, targets)
  local found, has, by_name = {}, {}, inventory.by_name
  for _, name in ipairs(targets) do
    local host = by_name[name]
    if not host then return nil end
    if not has[host] then
      has[host] = true
      found[#found + 1] = host
    end
  end
  return #found > 0 and found or nil
end

-- The same for the targets of a request, a text or a list of texts, which are taken together
-- (a `!web01` among them takes it out of all). Returns a list of hosts and a list of the targets
-- that name nothing: a name of neither host nor group, a pattern without a host, each unknown
-- name of a range. nil and an error when a pattern is wrong.
function pattern.resolve(inventory, targets)
  if type(targets) ~= "table" then targets = { targets } end
  local named = by_names(inventory, targets)
  if named then return named, {} end
  local state, err = guarded(inventory, targets)
  if not state then return nil, err end
  return state.found, state.unknown
end

return pattern
