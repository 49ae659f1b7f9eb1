-- SPDX-License-Identifier: MIT
-- The table that a task's file returns: its fields, checked; and the args of a run, read by what it
-- declares.

local schema = require "exed.schema"
local words = require "exed.words"

local definition = {}

local FIELDS <const> = {
  summary = "string", args = "table", run = "function", type = "string", lock = "string",
  time_limit = "duration", cleanup_limit = "duration", max_hosts = "number", check = "function",
}
local TEXTS <const> = {
  string = true, path = true, url = true, command = true, integer = true, number = true,
}
local OTHERS <const> = { handler = true, executor = true } -- plugins that are none of ours
local LOCKS <const> = { exclusive = true, shared = true, none = true }

local function wrong(format, ...) error(format:format(...), 0) end

local function check_fields(found)
  for key, value in pairs(found) do
    local want = FIELDS[key]
    if not want then
      wrong("unknown field %s%s (%s)", words.show(key), words.hint(key, words.keys(FIELDS)),
        table.concat(words.keys(FIELDS), ", "))
    end
    if want ~= "duration" and type(value) ~= want then
      wrong("%s must be a %s, got %s", key, want, words.show(value))
    end
  end
  if not found.summary or found.summary:find "\n" or found.summary == "" then
    wrong "summary is missing: one line that says what the task does"
  end
  if not found.run then wrong "run is missing: function(job) ... end" end
end

local function limit(found, name)
  if found[name] == nil then return nil end
  local seconds, want = schema.duration(found[name])
  if not seconds or seconds <= 0 then wrong("%s must be %s", name, want or "more than 0") end
  return seconds
end

-- Args that are secret are texts, and are given with each job.
local function check_secrets(checker)
  for _, field in ipairs(checker.fields) do
    if field.secret and not TEXTS[field.type] then
      wrong("args: '%s' cannot be secret: only %s can", field.name,
        table.concat(words.keys(TEXTS), ", "))
    end
    if field.secret and field.default ~= nil then
      wrong("args: '%s' is secret: a default would stand in the file for all to read", field.name)
    end
  end
end

-- Checks what a file returned. Raises a text that names the field. Returns the task: summary, run,
-- args (the declaration), checker, lock, time_limit, cleanup_limit (seconds or nil), max_hosts,
-- check (or nil), type.
function definition.check(found)
  if type(found) ~= "table" then wrong("does not return a table (a task returns one)") end
  if OTHERS[found.type] then wrong('its type must be "task", or a word of your own') end
  check_fields(found)
  if found.type and (not found.type:find "^[%w_][%w_.-]*$" or #found.type > 100) then
    wrong("type must be a word of letters, digits and _ . -, got %s", words.show(found.type))
  end
  if found.lock and not LOCKS[found.lock] then
    wrong('lock must be "exclusive", "shared" or "none", got %s', words.show(found.lock))
  end
  if found.max_hosts and (math.type(found.max_hosts) ~= "integer" or found.max_hosts < 1) then
    wrong "max_hosts must be a whole number, at least 1"
  end
  local ok, checker = pcall(schema.compile, found.args or {}, { lua = true })
  if not ok then wrong("args: %s", checker) end
  check_secrets(checker)
  return {
    summary = found.summary, run = found.run, args = found.args or {}, checker = checker,
    lock = found.lock or "exclusive", time_limit = limit(found, "time_limit"),
    cleanup_limit = limit(found, "cleanup_limit"), max_hosts = found.max_hosts, check = found.check,
    type = found.type or "task",
  }
end

-- What the task's own check says of args that are as they were declared (patterns and hosts are
-- texts, and of secrets it sees ***): nil when they will do, else a text.
function definition.judge(task, values)
  if not task.check then return nil end
  local copy = {}
  for name, value in pairs(values) do
    local field = task.checker.by_name[name]
    copy[name] = field and field.secret and "***" or value
  end
  local ok, good, why = pcall(task.check, copy)
  if not ok then return "check: " .. tostring(good) end
  if good == true then return nil end
  if not good and type(why) == "string" then return why end
  return "check must return true, or nil and what is wrong"
end

-- What others need to know of a task, as plain data.
function definition.describe(task)
  return {
    summary = task.summary, lock = task.lock, time_limit = task.time_limit,
    cleanup_limit = task.cleanup_limit, max_hosts = task.max_hosts,
    args = schema.describe(task.checker), checks = task.check ~= nil or nil,
    type = task.type,
  }
end

-- Checks what a task is called with by another: secrets are given as handles. Returns the values of
-- the others, and the handles; raises a text that names the argument.
function definition.check_call(task, given)
  local decl, rest, handles = {}, {}, {}
  for name, one in pairs(task.args) do decl[name] = one end
  for key, value in pairs(given) do
    local field = task.checker.by_name[key]
    if not field or not field.secret then
      rest[key] = value
    elseif type(value) == "table" and rawget(value, "secret") then
      handles[field.name], decl[field.name] = value, nil
    else
      wrong("'%s' is secret: it takes a handle, as job:secret and job.args give", key)
    end
  end
  local values, err = schema.compile(decl, { lua = true }):check(rest, "json")
  if not values then wrong("%s", err.message) end
  return values, handles
end

-- job.args of the values that were given and checked: a pattern becomes a set of targets, and a
-- secret a handle. Raises a text that names the argument.
function definition.bind(task, values, set, job)
  local args = {}
  for name, value in pairs(values) do
    local field = task.checker.by_name[name]
    local kind = field and field.type
    if field and field.secret then
      args[name] = job:secret("arg." .. name)
    elseif kind == "hosts" then
      local ok, found = pcall(set.match, set, value)
      if not ok then wrong("'%s': %s", name, tostring(found)) end
      args[name] = found
    elseif kind == "host" then
      local known = false
      for _, host in ipairs(set) do known = known or host.name == value end
      if not known then wrong("'%s': '%s' is not one of the targets", name, tostring(value)) end
      args[name] = value
    else
      args[name] = value
    end
  end
  return args
end

return definition
