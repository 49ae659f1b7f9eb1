-- SPDX-License-Identifier: MIT
-- Checks the plan that an executor made, and puts it into the form that exed.plan fills in. What is
-- wrong is a mistake of the executor's author: it is told with the field and what would be right.

local files = require "exed.plan.files"
local places = require "exed.plan.places"
local schema = require "exed.schema"
local words = require "exed.words"

-- What plans of anybody's executors may have.
local FIELDS <const> = {
  transport = "string", command = "string", argv = "table", stdin = "string", env = "table",
  cwd = "string", verdict = "table", stdout = "string", timeout = "any", window = "number",
  output_cap = "number", fence = "boolean", repeatable = "boolean", per_host = "function",
  files = "table", hosts_file = "string", records = "string",
}
-- Executors that are shipped, which have more between them and the core.
local SHIPPED <const> = { ssh = true, ["local"] = true, ansible = true }
local TRANSPORTS <const> = { ssh = true, ["local"] = true, process = true }
local HOSTS_FILE <const> = { names = true, ["json-lines"] = true }
-- What a plan of one process for all hosts cannot have.
local NOT_WHOLE <const> = { files = true, per_host = true, stdout = true }
local STATUS <const> = { OK = true, SKIPPED = true, FAILED = true, UNREACHABLE = true,
  CHANGED = true }
local STDOUT <const> = { text = true, json = true, facts = true }

local function wrong(format, ...) error({ wrong = format:format(...) }, 0) end

local function check_types(made)
  for key, value in pairs(made) do
    local want = FIELDS[key]
    if not want then
      wrong("unknown field %s%s", words.show(key), words.hint(tostring(key), words.keys(FIELDS)))
    end
    if want ~= "any" and type(value) ~= want then
      wrong("%s must be a %s, got %s", key, want, words.show(value))
    end
  end
end

-- Text for sh. list: the places of hosts in it, added to.
local function read_command(made, list, whole)
  list.whole = whole
  if made.argv and made.command then wrong "either command or argv" end
  if made.command and made.command:find("\0", 1, true) then wrong "command has a NUL byte" end
  if not made.argv then return made.command and places.of_command(made.command, list) end
  for i, word in ipairs(made.argv) do
    if type(word) ~= "string" or word:find("\0", 1, true) then
      wrong("argv: word %d must be text", i)
    end
  end
  if #made.argv == 0 then wrong "argv is empty" end
  return places.of_words(made.argv, list)
end

-- { NAME = text } or a list of "NAME=text" -> the list.
local function read_env(given)
  if not given then return nil end
  local list = {}
  for name, value in pairs(given) do
    local entry = math.type(name) == "integer" and value or ("%s=%s"):format(name, value)
    if type(entry) ~= "string" or not entry:find "^[%a_][%w_]*=" then
      wrong("env: %s is no NAME=text", words.show(entry))
    end
    list[#list + 1] = entry
  end
  table.sort(list)
  return list
end

local function check_verdict(verdict)
  if not verdict then
    wrong 'verdict is missing: { [0] = "CHANGED", default = "FAILED" }'
  end
  for code, name in pairs(verdict) do
    if code ~= "default" and math.type(code) ~= "integer" then
      wrong("verdict: %s is no exit code", words.show(code))
    end
    if not STATUS[name] then
      wrong("verdict: %s is no status (OK, CHANGED, SKIPPED, FAILED, UNREACHABLE)",
        words.show(name))
    end
  end
end

local function read_timeout(given)
  if given == nil then return nil end
  local seconds, want = schema.duration(given)
  if not seconds then wrong("timeout must be %s", want) end
  return seconds
end

local function check_number(made, field)
  local value = made[field]
  if value and (math.type(value) ~= "integer" or value < 1) then
    wrong("%s must be a whole number, at least 1", field)
  end
end

-- A copy with command, env and timeout in the core's form. whole: of one process for all hosts.
local function read_fields(made, whole)
  if made.cwd and not made.cwd:find "^/" then wrong "cwd must be an absolute path" end
  local copy = {}
  for key, value in pairs(made) do copy[key] = value end
  copy.places = {}
  copy.argv, copy.command = nil, read_command(made, copy.places, whole)
  copy.env, copy.timeout = read_env(made.env), read_timeout(made.timeout)
  if #copy.places == 0 then copy.places = nil end
  return copy
end

-- One process for all hosts, which says itself what became of each.
local function read_process(made)
  for name in pairs(NOT_WHOLE) do
    if made[name] ~= nil then wrong('transport "process" has no %s', name) end
  end
  if made.fence then wrong 'transport "process" has no fence' end
  if (made.records or "json-lines") ~= "json-lines" then wrong 'records must be "json-lines"' end
  if not HOSTS_FILE[made.hosts_file or "names"] then
    wrong 'hosts_file must be "names" or "json-lines"'
  end
  if made.verdict then check_verdict(made.verdict) end
  check_number(made, "window")
  check_number(made, "output_cap")
  local copy = read_fields(made, true)
  if not copy.command then wrong 'transport "process" wants command or argv' end
  copy.shown = made.command or table.concat(made.argv, " ")
  copy.process = { hosts_file = made.hosts_file or "names", judges = made.verdict ~= nil }
  copy.verdict = made.verdict or {}
  return copy
end

local function read(made)
  check_types(made)
  if not TRANSPORTS[made.transport] then
    wrong('transport must be "ssh", "local" or "process", got %s', words.show(made.transport))
  end
  if made.transport == "process" then return read_process(made) end
  for _, name in ipairs { "hosts_file", "records" } do
    if made[name] then wrong('%s is for transport "process"', name) end
  end
  if made.stdout and not STDOUT[made.stdout] then
    wrong 'stdout should be "text", "json" or "facts"'
  end
  check_verdict(made.verdict)
  check_number(made, "window")
  check_number(made, "output_cap")
  local copy = read_fields(made)
  copy.shown = made.command or made.argv and table.concat(made.argv, " ")
  if made.files and made.fence == false then wrong "files need the fence: fence is false" end
  copy.files = made.files and files.read(made.files)
  if made.files and not copy.command then copy.command = ":" end
  if made.per_host and not copy.command then copy.command, copy.no_command = ":", true end
  return copy
end

local check = { FIELDS = FIELDS, SHIPPED = SHIPPED }

-- What per_host gave for one host: the same with its fields as fanout.start takes them. Raises
-- { wrong } otherwise.
function check.fields(given)
  check_types(given)
  return read_fields(given)
end

-- made: what the executor of that name returned. Returns the plan, or nil and what is wrong.
function check.plan(made, name)
  if SHIPPED[name] then return made end
  if type(made) ~= "table" then return nil, "a plan is a table" end
  local ok, found = pcall(read, made)
  if ok then return found end
  if type(found) == "table" and found.wrong then return nil, found.wrong end
  error(found, 0)
end

return check
