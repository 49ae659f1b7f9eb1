-- SPDX-License-Identifier: MIT
-- Gives hosts and sets their operations; returns exed.task.hosts with them. An operation checks
-- what the author gave, asks for the effect, tries again as he said, and turns the answer into a
-- record
-- or results. What failed raises, unless it was asked with check = false.

local copies = require "exed.task.copies"
local counts = require "exed.task.counts"
local fail = require "exed.task.fail"
local hosts = require "exed.task.hosts"
local records = require "exed.task.records"
local schema = require "exed.schema"
local words = require "exed.words"

local MAX_DELAY <const> = 60 -- seconds between two tries, however often they failed

local SHARED <const> = {
  timeout = { "duration", min = 0.001 }, retries = { "integer", min = 0, max = 1000, default = 0 },
  delay = { "duration", default = 2 }, backoff = { "number", min = 1, max = 100, default = 2 },
  step = { "string", min = 1, max = 100 }, check = { "boolean", default = true },
  changes = { "boolean" }, repeatable = { "boolean", default = false },
}
local OF_SETS <const> = { window = { "integer", min = 1 }, max_failed = { "count", default = 0 } }
local VIA <const> = { "string", default = "ssh" }

-- changes: what a success is when the author says nothing of it.
local KINDS <const> = {
  execute = { changes = true, fields = {
    cwd = { "path" }, env = { "object" }, stdin = { "string" },
  } },
  ping = { changes = false, fields = {} },
  facter = { changes = false, fields = {} },
  service = { changes = true, fields = {
    name = { "string", required = true, match = "^[%w_][%w@._:-]*$" },
    state = { "choice", required = true, of = { "started", "stopped", "restarted", "reloaded" } },
    enable = { "boolean" },
  } },
  deploy = { changes = true, fields = {
    role = { "string", required = true, match = "^[%w][%w._-]*$" },
    partial = { "list" }, extra_vars = { "object" },
  } },
  wait_down = { changes = false, timeout = 300, fields = { via = VIA } },
  wait_up = { changes = false, timeout = 300, fields = { via = VIA } },
}
for kind, one in pairs(copies.KINDS) do KINDS[kind] = one end
-- These travel as they are, text or a secret's handle: they are declared to be known by name.
local FREE <const> = { env = true, stdin = true }

local function compile(kind, for_set)
  local decl = {}
  for name, field in pairs(SHARED) do decl[name] = field end
  for name, field in pairs(for_set and OF_SETS or {}) do decl[name] = field end
  for name, field in pairs(KINDS[kind].fields) do decl[name] = field end
  return schema.compile(decl, { lua = true })
end

local checkers = { host = {}, set = {} }
for kind in pairs(KINDS) do
  checkers.host[kind], checkers.set[kind] = compile(kind, false), compile(kind, true)
end

-- ---- what was asked -----------------------------------------------------------------------------

local function is_secret(value) return type(value) == "table" and rawget(value, "secret") ~= nil end

local function check_text(value, what)
  if is_secret(value) then return { secret = rawget(value, "secret") } end
  if type(value) == "number" then return tostring(value) end
  if type(value) ~= "string" then fail.usage("%s must be text, got %s", what, type(value)) end
  return value
end

local function check_env(given)
  if given == nil then return nil end
  if type(given) ~= "table" then fail.usage "execute: env must be a table of name = text" end
  local env = {}
  for name, value in pairs(given) do
    if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" then
      fail.usage("execute: env: '%s' is no name of a variable", tostring(name))
    end
    env[name] = check_text(value, "execute: env." .. name)
    if env[name] == value and value:find("\0", 1, true) then
      fail.usage("execute: env.%s has a NUL byte", name)
    end
  end
  return env
end

local function check_words(list)
  local argv = {}
  for i, word in ipairs(list) do
    if type(word) ~= "string" and type(word) ~= "number" then
      fail.usage("execute: word %d of the command must be text, got %s", i, type(word))
    end
    argv[i] = tostring(word)
  end
  return argv
end

-- execute takes a text, a list of words, or one table with both the words and the options.
-- Returns what the fields of the effect get, and the options.
local function read_command(command, options)
  local fields, rest = {}, {}
  for name, value in pairs(options or {}) do
    if type(name) ~= "number" then rest[name] = value end
  end
  if type(command) == "table" then
    fields.argv = check_words(command)
    for name, value in pairs(command) do
      if type(name) ~= "number" then rest[name] = value end
    end
    if #fields.argv == 0 then fail.usage "execute: the command is empty" end
  elseif type(command) == "string" and command:find "%S" then
    fields.command = command
  else
    fail.usage("execute wants a command: text, or a list of words; got %s",
      command == "" and "an empty text" or type(command))
  end
  for _, text in ipairs(fields.argv or { fields.command }) do
    if text:find("\0", 1, true) then fail.usage "execute: the command has a NUL byte" end
  end
  fields.env, rest.env = check_env(rest.env), nil
  if rest.stdin ~= nil then
    fields.stdin, rest.stdin = check_text(rest.stdin, "execute: stdin"), nil
  end
  return fields, rest
end

local function check_via(kind, via)
  local port = via and math.tointeger(tonumber(via:match "^tcp:(%d+)$"))
  if via == nil or via == "ssh" or via == "icmp" then return end
  if port and port >= 1 and port <= 65535 then return end
  fail.usage('%s: via must be "ssh", "icmp" or "tcp:PORT", got %s', kind, words.show(via))
end

-- Returns the fields of the effect and the checked options.
local function read(kind, for_set, first, second)
  local fields, given
  if kind == "execute" then
    if second ~= nil and type(second) ~= "table" then
      fail.usage("execute: options are a table, got %s", type(second))
    end
    fields, given = read_command(first, second)
  elseif kind == "copy" and second == nil then
    fields, given = copies.read(first, check_text)
  else
    if second ~= nil then fail.usage("%s takes one table of named fields", kind) end
    fields, given = {}, first
  end
  local options = counts.options(checkers[for_set and "set" or "host"][kind], given, kind)
  for name in pairs(KINDS[kind].fields) do
    if not FREE[name] then fields[name] = options[name] end
  end
  check_via(kind, fields.via)
  return fields, options
end

-- ---- doing it -----------------------------------------------------------------------------------

local function indexes_of(list)
  local indexes = {}
  for i, host in ipairs(list) do indexes[i] = host.index end
  return indexes
end

-- One try on all hosts of a list. Returns their records by host.
local function try_once(rt, kind, list, fields, options, try)
  local changes = options.changes
  if changes == nil then changes = KINDS[kind].changes end
  if kind == "copy" then fields.task = rt:context().task end
  local answer, n = rt:ask("op", {
    op = kind, hosts = indexes_of(list), fields = fields, step = options.step,
    timeout = options.timeout or KINDS[kind].timeout, window = options.window, changes = changes,
    repeatable = options.repeatable or not changes, try = try,
  })
  local by_index, found = {}, {}
  for _, given in ipairs(answer.records) do by_index[given.i] = given end
  for _, host in ipairs(list) do
    local given = by_index[host.index] or { status = 3, error = "no record came" }
    found[host] = records.record(host, options.step or kind, given, function(stream)
      return rt.backend.output(n, host.index, stream)
    end)
    copies.tell(kind, found[host], fields, ("%s.%d.%d.1"):format(rt.jid, n, host.index))
    found[host].attempts, found[host].dry_run = try, rt.dry_run or nil
    if given.status == 5 and not changes then found[host].status = "OK" end
  end
  return found
end

-- All tries. Returns a list of records in the order of the hosts.
local function perform(rt, kind, list, fields, options)
  local found, pending, try, pause = {}, list, 1, options.delay
  while true do
    local now = try_once(rt, kind, pending, fields, options, try)
    local again = {}
    for _, host in ipairs(pending) do
      found[host] = now[host]
      if now[host].failed then again[#again + 1] = host end
    end
    if #again == 0 or try > options.retries then break end
    rt:sleep(math.min(pause, MAX_DELAY))
    pending, try, pause = again, try + 1, pause * options.backoff
  end
  local list_of = {}
  for i, host in ipairs(list) do
    list_of[i] = found[host]
    rt.last[host] = found[host].status
  end
  return list_of
end

local function note_change(rt, record)
  if record.status ~= "CHANGED" then return end
  rt:context().changed = true
  rt.changed[record.host] = (rt.changed[record.host] or 0) + 1
end

-- The text of a failure: `web01: nginx failed: unit not found`
local function say_failed(record)
  return ("%s: %s: %s"):format(record.host.name, record.step,
    record.error or record.rtc and "exit code " .. record.rtc or record.status)
end

local function on_host(kind, host, first, second)
  local rt = hosts.runtime(host)
  local fields, options = read(kind, false, first, second)
  local record = perform(rt, kind, { host }, fields, options)[1]
  note_change(rt, record)
  if record.failed and options.check then
    error(fail.new("failed", say_failed(record), { host = host, record = record }), 0)
  end
  return record
end

local function raise_failed(kind, options, results, failed)
  error(fail.new("failed", ("%s: %d of %d hosts failed, first %s"):format(options.step or kind,
    #failed, #results, say_failed(results[failed[1]])), { results = results }), 0)
end

local function on_set(kind, set, first, second)
  local rt, world = hosts.runtime(set), hosts.world(set)
  local fields, options = read(kind, true, first, second)
  if #set == 0 then return records.results({}, world) end
  local list = table.move(set, 1, #set, 1, {})
  local results = records.results(perform(rt, kind, list, fields, options), world)
  for _, record in ipairs(results) do note_change(rt, record) end
  local failed = results.failed
  local drop = hosts.inside(set).drop -- a batch loses those that failed, and goes on
  if drop then
    drop(results)
  elseif options.check and #failed > counts.down(options.max_failed, #list) then
    raise_failed(kind, options, results, failed)
  end
  return results
end

-- Undoes a copy to one host. Where it changed nothing, nothing is asked.
local function restore_one(host, record, options)
  local rt = hosts.runtime(host)
  local fields = copies.undo(record, host)
  if not fields then
    return records.record(host, options.step or "restore", { status = 1 })
  end
  local done = perform(rt, "restore", { host }, fields, options)[1]
  note_change(rt, done)
  return done
end

local function restore(for_set, target, what, second)
  local options = counts.options(checkers[for_set and "set" or "host"].restore, second or {},
    "restore")
  if not for_set then
    local record = restore_one(target, what, options)
    if record.failed and options.check then
      error(fail.new("failed", say_failed(record), { host = target, record = record }), 0)
    end
    return record
  end
  local list = {}
  for i, host in ipairs(target) do
    if type(what) ~= "table" or not what[host] then
      fail.usage("restore wants the results of a copy; they have nothing of %s", host.name)
    end
    list[i] = restore_one(host, what[host], options)
  end
  local results = records.results(list, hosts.world(target))
  local failed = results.failed
  if options.check and #failed > counts.down(options.max_failed, math.max(#list, 1)) then
    raise_failed("restore", options, results, failed)
  end
  return results
end

-- ---- methods ------------------------------------------------------------------------------------

for kind in pairs(KINDS) do
  hosts.host_methods[kind] = function(host, first, second)
    if not hosts.is_host(host) then fail.usage("call it as host:%s(...)", kind) end
    return on_host(kind, host, first, second)
  end
  hosts.set_methods[kind] = function(set, first, second)
    if not hosts.is_set(set) then fail.usage("call it as set:%s(...)", kind) end
    return on_set(kind, set, first, second)
  end
end
function hosts.host_methods.restore(host, record, options)
  return restore(false, host, record, options)
end
function hosts.set_methods.restore(set, results, options)
  return restore(true, set, results, options)
end

local function check_status(status)
  if records.NUMBERS[status] then return end
  fail.usage("record wants a status (OK, CHANGED, SKIPPED, FAILED, UNREACHABLE), got %s",
    tostring(status))
end

-- Sets the outcome of a host; the last one counts.
function hosts.host_methods.record(host, status, text)
  check_status(status)
  local rt = hosts.runtime(host)
  rt:check_over(rt:context())
  rt:outcome({ host }, status, text ~= nil and tostring(text) or nil)
end

function hosts.set_methods.record(set, status, text)
  check_status(status)
  local rt = hosts.runtime(set)
  rt:check_over(rt:context())
  rt:outcome(set, status, text ~= nil and tostring(text) or nil)
end

-- Ends the body of this host as FAILED.
function hosts.host_methods.fail(host, text)
  error(fail.new("failed", tostring(text), { host = host }), 0)
end

function hosts.host_methods.say(host, format, ...)
  hosts.runtime(host):note("say", { host = host.index, text = tostring(format):format(...) })
end

return hosts
