-- SPDX-License-Identifier: MIT
-- Warnings about tasks: what loads, and will do something else than its author thinks when it is
-- resumed or something fails. Each rule looks for one line of the table "What an author must not
-- do". They see words, not meaning, so one may be wrong: a comment `check: ok` on the line of a
-- warning silences it.
--
--   lint.check(text) -> { { line, text }, ... }      in the order of lines

local env = require "exed.task.env"
local syntax = require "exed.task.syntax"

local lint = {}

local rules = {}

local function set_of(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

-- Operations of hosts and sets; of these the ones that change nothing by themselves.
local OPS <const> = set_of
  "execute ping facter service deploy copy restore fetch wait_down wait_up"
local LOOKS <const> = set_of "ping facter fetch wait_down wait_up"
-- What else asks an effect: methods of job, functions of modules.
local ASKS <const> = set_of "sleep wait_until retry try await_approval call"
local MODULES <const> = { http = set_of "get post request", each = set_of "window batch" }
-- Plain functions that ask nothing.
local PLAIN <const> = set_of
  "assert error ipairs next pairs pcall print select tonumber tostring type xpcall"

-- ---- calls --------------------------------------------------------------------------------------

-- Whether the name at i is a method that is called: `:name(`.
local function is_method(s, i, names)
  local token = s.list[i]
  return token.kind == "name" and names[token.text] and s:is(i - 1, ":") and s:args(i) ~= nil
end

local function is_op(s, i) return is_method(s, i, OPS) end

-- Whether the name at i is a function of a module that is called: `http.get(`.
local function is_module_call(s, i)
  local token = s.list[i]
  if token.kind ~= "name" or not s:is(i - 1, ".") or s:is(i - 3, ".") then return false end
  local names = s.list[i - 2] and MODULES[s.list[i - 2].text]
  return names ~= nil and names[token.text] ~= nil
end

local function is_effect(s, i)
  return is_op(s, i) or is_method(s, i, ASKS) or is_module_call(s, i)
end

-- Whether a function of the author's own is called at i, which may do anything.
local function is_unknown_call(s, i)
  local token = s.list[i]
  return token.kind == "name" and not PLAIN[token.text] and s:args(i) ~= nil
    and not s:is(i - 1, ".") and not s:is(i - 1, ":") and not s:is(i - 1, "function")
end

local function any(s, first, last, is)
  for i = first, last do
    if is(s, i) then return true end
  end
  return false
end

-- ---- what is not there --------------------------------------------------------------------------

local function is_global(s, i)
  return not s:is(i - 1, ".") and not s:is(i - 1, ":") and not s:is(i - 1, "local")
    and not (s:is(i + 1, "=") and (s:is(i - 1, "{") or s:is(i - 1, ",")))
end

function rules.missing(s, warn)
  for i, token in ipairs(s.list) do
    local word = token.text
    if token.kind == "name" and is_global(s, i) then
      if s:is(i + 1, ".") and s.list[i + 2] then word = word .. "." .. s.list[i + 2].text end
      local why = env.instead[word] or env.instead[token.text]
      if why then warn(i, "%s is not there for tasks: %s", word, why) end
    end
    if (token.kind == "name" and s:is(i + 1, "=") or token.kind == "string")
      and (word == "__gc" or word == "__mode") then
      warn(i, "%s: when memory is freed differs on a resume", word)
    end
  end
end

local function is_format(s, i)
  if s:is(i - 1, "(") and s:is(i + 1, ")") and s:is(i + 2, ":") and s:is(i + 3, "format") then
    return true
  end
  local name = s:is(i - 1, "(") and i - 2 or i - 1
  return s:is(name, "format") or s:is(name, "say")
end

function rules.address(s, warn)
  for i, token in ipairs(s.list) do
    if token.kind == "string" and is_format(s, i)
      and token.text:gsub("%%%%", ""):find "%%[-+ #0]*%d*p" then
      warn(i, "%%p shows an address, which is another one on a resume")
    end
  end
end

-- ---- order --------------------------------------------------------------------------------------

-- Names of variables that stand for hosts: of the body of each.window, of a loop over hosts.
local function host_names(s)
  local names = {}
  for i, token in ipairs(s.list) do
    if token.text == "window" and is_module_call(s, i) then
      local first, last = s:args(i)
      for j = first, last do
        if s:is(j, "function") and s:is(j + 1, "(") and s.list[j].block == token.block
          and s.list[j + 2].kind == "name" and s:is(j - 1, ",") then
          names[s.list[j + 2].text] = true
        end
      end
    elseif s:is(i, "for") and s:is(i + 2, ",") and s:is(i + 4, "in") and s:is(i + 5, "ipairs") then
      local first, last = s:args(i + 5)
      if first and (s:is(last - 1, "hosts") or s:is(last - 1, "batch")) then
        names[s.list[i + 3].text] = true
      end
    end
  end
  return names
end

function rules.keys(s, warn)
  local hosts, tables = host_names(s), {}
  for i, token in ipairs(s.list) do
    local inside = s:is(i, "[") and token.close == i + 2 and s.list[i + 1].text
    if inside and hosts[inside] and s:is(i + 3, "=") and s.list[i - 1].kind == "name" then
      tables[s.list[i - 1].text] = true
    end
  end
  for i = 1, #s.list do
    local first = (s:is(i, "pairs") or s:is(i, "next")) and s:args(i)
    local name = first and s.list[first + 1]
    if name and name.kind == "name" and tables[name.text] and s.list[first].close == first + 2 then
      warn(i, "keys of %s are hosts, which have no order: use host.name as key, or keep a list",
        name.text)
    end
  end
end

function rules.equals(s, warn)
  for i = 1, #s.list do
    local first, last
    if s:is(i, "sort") and s:is(i - 1, ".") then first, last = s:args(i) end
    if first and any(s, first, last, function(_, j) return s:is(j, "<=") or s:is(j, ">=") end) then
      warn(i, "an order with <= or >= turns equal items round: use < or >")
    end
  end
end

-- ---- loops --------------------------------------------------------------------------------------

-- The tokens of a loop that begins at i: first, last, and what kind it is; nil when none does.
local function loop_at(s, i)
  local list = s.list
  if s:is(i, "repeat") and list[i].close then
    local last = list[i].close
    while list[last + 1] and list[last + 1].line == list[last].line do last = last + 1 end
    return i, last, "repeat"
  end
  if not s:is(i, "while") and not s:is(i, "for") then return nil end
  for j = i, #list do
    if s:is(j, "do") and list[j].block == list[i].block then
      return i, list[j].close or #list, list[i].text
    end
  end
end

local function is_now(s, i) return is_method(s, i, { now = true }) end

function rules.clock(s, warn)
  for i = 1, #s.list do
    local first, last, kind = loop_at(s, i)
    if first and kind ~= "for" and any(s, first, last, is_now)
      and not any(s, first, last, is_effect) and not any(s, first, last, is_unknown_call) then
      warn(i, "job:now() stands still while no effect is asked, this loop never ends: use "
        .. "job:sleep or job:wait_until")
    end
  end
end

local MANY <const> = 10 -- rounds of a counting loop that are a poll, and no few tries

-- Whether a counting loop makes many rounds.
local function counts_far(s, i)
  if not s:is(i + 2, "=") then return false end
  local bound = s:is(i + 4, ",") and tonumber(s.list[i + 5].text)
  return bound ~= nil and bound >= MANY
end

function rules.poll(s, warn)
  for i, token in ipairs(s.list) do
    local first, last, kind = loop_at(s, i)
    local function here(is)
      return any(s, first, last, function(_, j) return s.list[j].fn == token.fn and is(s, j) end)
    end
    if first and (kind ~= "for" or counts_far(s, i))
      and here(function(_, j) return is_method(s, j, { sleep = true }) end)
      and here(function(_, j) return is_op(s, j) or is_module_call(s, j) end) then
      warn(i, "polling by hand, each round is an effect (a job has 100,000): use job:wait_until, "
        .. "wait_up or wait_down")
    end
  end
end

-- ---- putting back -------------------------------------------------------------------------------

local function changes(s, i)
  if not is_op(s, i) or LOOKS[s.list[i].text] then return false end
  local first, last = s:args(i)
  return not s:has_field(first, last, "changes", "false")
end

-- Hosts that operations inside these tokens are done on.
local function receivers(s, first, last)
  local found = {}
  for i = first, last do
    if is_op(s, i) then found[s:receiver(i)] = true end
  end
  return found
end

function rules.defer(s, warn)
  for i, token in ipairs(s.list) do
    local first, last
    if is_method(s, i, { defer = true }) then first, last = s:args(i) end
    local back = first and receivers(s, first, last)
    for j = i - 1, back and token.block or i, -1 do
      local one = s.list[j]
      if one.block == token.block and is_method(s, j, { defer = true }) then break end
      if one.block == token.block and changes(s, j) and back[s:receiver(j)] then
        warn(i, "the defer comes after what it may have to put back (line %d): a failure between "
          .. "them leaves it so; defer first", one.line)
        break
      end
    end
  end
end

-- ---- state on the node --------------------------------------------------------------------------

local WRITERS <const> = set_of "tee touch cp mv dd install truncate"

function rules.node_files(s, warn)
  for i = 1, #s.list do
    local first, last
    if is_op(s, i) and s:receiver(i):find "%.node$" then first, last = s:args(i) end
    for j = first or 1, last or 0 do
      local token = s.list[j]
      local name = token.kind == "string" and (token.text:match "^%S*/(%S+)" or token.text)
      if name and (token.text:find(">", 1, true) or WRITERS[name]) then
        warn(i, "a file of the node: the next node has not got it; keep state in variables, they "
          .. "come back")
        break
      end
    end
  end
end

-- ---- answers that nobody looks at ---------------------------------------------------------------

function rules.pcall(s, warn)
  for i = 1, #s.list do
    local first, last
    if (s:is(i, "pcall") or s:is(i, "xpcall")) and is_global(s, i) then first, last = s:args(i) end
    local function names_op(_, j) return s:is(j - 1, ".") and OPS[s.list[j].text] end
    if first and (any(s, first, last, is_effect) or any(s, first, last, names_op))
      and not s:is_used(i, last) then
      warn(i, "what %s catches here is thrown away: look at its answer, or use job:try",
        s.list[i].text)
    end
  end
end

function rules.unchecked(s, warn)
  for i = 1, #s.list do
    local first, last
    if is_op(s, i) or is_module_call(s, i) then first, last = s:args(i) end
    if first and s:has_field(first, last, "check", "false") and not s:is_used(s:start(i), last) then
      warn(i, "check = false, and nobody looks at the answer: a failure here goes unseen")
    end
  end
end

-- ---- all of them --------------------------------------------------------------------------------

-- The warnings for a text that compiles.
function lint.check(text)
  local s, found = syntax.new(text), {}
  local function warn(i, format, ...)
    local line = s.list[i].line
    if s.list.allowed[line] then return end
    found[#found + 1] = { line = line, text = format:format(...), order = #found }
  end
  for _, rule in pairs(rules) do rule(s, warn) end
  table.sort(found, function(a, b)
    if a.line ~= b.line then return a.line < b.line end
    return a.text < b.text
  end)
  return found
end

return lint
