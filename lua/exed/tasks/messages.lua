-- SPDX-License-Identifier: MIT
-- What a task's process may say to its node, checked by type and bounds before anything of it is
-- used: the process runs code that nobody vouches for. A message that is none of these ends it.
--
--   messages.check(message, hosts) -> a copy with the known fields only | nil, what is wrong
--   hosts: how many targets the job has in the inventory; an index is below it

local service = require "exed.ops.service"

local messages = {}

local MAX_PATH <const> = 4096 -- bytes of an effect's path
local MAX_TEXT <const> = 64 << 10 -- bytes of what is said, and of an outcome's reason
local MAX_COMMAND <const> = 1 << 20 -- bytes of a command, an environment or a body
local MAX_NAME <const> = 255 -- bytes of a name
local MAX_SECONDS <const> = 10 * 366 * 86400
local MAX_ITEMS <const> = 10000 -- words, variables, headers
local MAX_VALUE <const> = 1 << 20 -- bytes of what run returned, before it is measured

local function wrong(format, ...) error({ wrong = format:format(...) }, 0) end

-- ---- kinds of values ----------------------------------------------------------------------------

local function text(value, name, max)
  if type(value) ~= "string" then wrong("%s is no text", name) end
  if #value > max then wrong("%s has %d bytes, at most %d", name, #value, max) end
  return value
end

-- A text that becomes part of a command line or a name: no NUL in it.
local function plain(value, name, max)
  if text(value, name, max):find("\0", 1, true) then wrong("%s has a NUL byte", name) end
  return value
end

local function integer(value, name, low, high)
  if math.type(value) ~= "integer" or value < low or value > high then
    wrong("%s is no whole number from %d to %d", name, low, high)
  end
  return value
end

local function seconds(value, name)
  if type(value) ~= "number" or not (value >= 0 and value <= MAX_SECONDS) then
    wrong("%s is no number of seconds", name)
  end
  return value
end

local function boolean(value, name)
  if type(value) ~= "boolean" then wrong("%s is neither true nor false", name) end
  return value
end

local function object(value, name)
  if type(value) ~= "table" then wrong("%s is no table", name) end
  return value
end

local function optional(check, value, ...)
  if value == nil then return nil end
  return check(value, ...)
end

-- A text, or the handle of a secret.
local function secretive(value, name, max)
  if type(value) == "table" then return { secret = plain(value.secret, name, MAX_NAME) } end
  return text(value, name, max)
end

-- A copy of a list, each item checked; nothing but the list may be in it.
local function list(value, name, most, check, ...)
  local copy, n = {}, 0
  for _ in pairs(object(value, name)) do n = n + 1 end
  if n > most then wrong("%s has %d items, at most %d", name, n, most) end
  for i = 1, n do copy[i] = check(value[i], name, ...) end
  return copy
end

local function map(value, name, check)
  local copy, n = {}, 0
  for key, item in pairs(object(value, name)) do
    n = n + 1
    if n > MAX_ITEMS then wrong("%s has more than %d items", name, MAX_ITEMS) end
    copy[plain(key, name, MAX_NAME)] = check(item, name .. "." .. key, MAX_COMMAND)
  end
  return copy
end

-- Indexes of hosts, each once.
local function indexes(value, hosts)
  local copy, seen = list(value, "hosts", hosts, integer, 0, hosts - 1), {}
  for _, index in ipairs(copy) do
    if seen[index] then wrong("hosts has %d twice", index) end
    seen[index] = true
  end
  if #copy == 0 then wrong "hosts is empty" end
  return copy
end

-- ---- operations ---------------------------------------------------------------------------------

local function environment(value, name)
  local env = map(value, name, secretive)
  for key, item in pairs(env) do
    if not key:find "^[%a_][%w_]*$" then wrong("%s: %q is no name of a variable", name, key) end
    if type(item) == "string" then plain(item, name, MAX_COMMAND) end
  end
  return env
end

local ops = {}

function ops.execute(fields)
  local argv = optional(list, fields.argv, "argv", MAX_ITEMS, plain, MAX_COMMAND)
  if not argv == not fields.command or argv and #argv == 0 then
    wrong "execute wants either a command or words"
  end
  return {
    argv = argv, command = optional(plain, fields.command, "command", MAX_COMMAND),
    env = optional(environment, fields.env, "env"),
    stdin = optional(secretive, fields.stdin, "stdin", MAX_COMMAND),
    cwd = optional(plain, fields.cwd, "cwd", 4096),
  }
end

local SERVICE_STATES <const> = { started = true, stopped = true, restarted = true, reloaded = true }

function ops.service(fields)
  local name = plain(fields.name, "name", MAX_NAME)
  if not name:find(service.NAME) then wrong "name is no name of a service" end
  if not SERVICE_STATES[fields.state] then wrong "state is no state of a service" end
  return {
    name = name, state = fields.state, enable = optional(boolean, fields.enable, "enable"),
  }
end

function ops.deploy(fields)
  local role = plain(fields.role, "role", MAX_NAME)
  if not role:find "^[%w][%w._-]*$" then wrong "role is no name of a role" end
  return {
    role = role, partial = optional(list, fields.partial, "partial", MAX_ITEMS, plain, MAX_NAME),
    extra_vars = optional(object, fields.extra_vars, "extra_vars"),
  }
end

local function scalar(value, name)
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return secretive(value, name, MAX_COMMAND)
end

local function dest_of(fields)
  local dest = plain(fields.dest, "dest", MAX_PATH)
  if not dest:find "^/" then wrong "dest is no absolute path" end
  return dest
end

function ops.copy(fields)
  local task = optional(plain, fields.task, "task", MAX_NAME)
  if task and not task:find "^[%w_-]+$" then wrong "task is no name of a task" end
  return {
    dest = dest_of(fields), src = optional(plain, fields.src, "src", MAX_PATH), task = task,
    content = optional(secretive, fields.content, "content", MAX_COMMAND),
    template = optional(plain, fields.template, "template", MAX_PATH),
    vars = optional(map, fields.vars, "vars", scalar),
    mode = optional(plain, fields.mode, "mode", 8), owner = optional(plain, fields.owner, "owner",
      MAX_NAME), group = optional(plain, fields.group, "group", MAX_NAME),
    backup = optional(boolean, fields.backup, "backup"),
  }
end

function ops.restore(fields)
  return {
    dest = dest_of(fields), backup = optional(plain, fields.backup, "backup", MAX_PATH),
    existed = boolean(fields.existed, "existed"),
  }
end

-- The fields of an operation that is none of these are told to its executor as they are, when they
-- are plain.
local function other_fields(fields)
  local copy = {}
  for key, value in pairs(fields) do
    local kind = type(value)
    if kind == "string" then
      copy[plain(key, "field", MAX_NAME)] = plain(value, key, MAX_COMMAND)
    elseif kind == "number" or kind == "boolean" then
      copy[plain(key, "field", MAX_NAME)] = value
    else
      wrong("the field %s is a %s", tostring(key), kind)
    end
  end
  return copy
end

local kinds = {}

function kinds.op(args, hosts)
  local op = plain(args.op, "op", 32)
  if not op:find "^[%l_]+$" then wrong "op is no name of an operation" end
  local given = object(args.hosts, "hosts")
  local here = given[1] == -1
  if here and (#given > 1 or op ~= "execute") then wrong "the node itself takes execute only" end
  return {
    op = op, hosts = here and { -1 } or indexes(given, hosts),
    fields = (ops[op] or other_fields)(object(args.fields, "fields")),
    step = optional(plain, args.step, "step", MAX_NAME),
    timeout = optional(seconds, args.timeout, "timeout"),
    window = optional(integer, args.window, "window", 1, 1 << 30),
    changes = optional(boolean, args.changes, "changes"),
    repeatable = optional(boolean, args.repeatable, "repeatable"),
    try = optional(integer, args.try, "try", 1, 1 << 30),
  }
end

function kinds.sleep(args) return { seconds = seconds(args.seconds, "seconds") } end

local function headers(value, name)
  local found = map(value, name, secretive)
  for key, item in pairs(found) do
    if not key:find "^[%w!#$%%&'*+.^_`|~-]+$" then wrong("%s: %q is no header", name, key) end
    if type(item) == "string" and item:find "[\r\n\0]" then wrong("%s.%s is no line", name, key) end
  end
  return found
end

function kinds.http(args)
  local url = text(args.url, "url", 8192)
  if not url:find "^[hH][tT][tT][pP][sS]?://[^/%s%c][^%s%c]*$" then wrong "url is no URL" end
  local method = text(args.method, "method", 20)
  if not method:find "^%u+$" then wrong "method is no method" end
  return {
    method = method, url = url, headers = optional(headers, args.headers, "headers"),
    body = optional(secretive, args.body, "body", MAX_COMMAND),
    timeout = optional(seconds, args.timeout, "timeout"),
    repeatable = optional(boolean, args.repeatable, "repeatable"),
    try = optional(integer, args.try, "try", 1, 1 << 30),
  }
end

function kinds.approval(args)
  return {
    message = text(args.message, "message", MAX_PATH), timeout = seconds(args.timeout, "timeout"),
    by = optional(plain, args.by, "by", MAX_NAME),
  }
end

local TALLIES <const> = { add = true, clear = true, look = true }

function kinds.tally(args, hosts)
  if not TALLIES[args.change] then wrong "change is none of a tally" end
  local name = text(args.name, "name", 64)
  if not name:find "^[%w_.-]+$" then wrong "name is no name of a tally" end
  return {
    host = integer(args.host, "host", 0, hosts - 1), name = name, change = args.change,
    within = seconds(args.within, "within"),
  }
end

local STATUSES <const> = {
  OK = true, SKIPPED = true, FAILED = true, UNREACHABLE = true, CHANGED = true,
}
local notes = {}

function notes.outcome(args, hosts)
  if not STATUSES[args.status] then wrong "status is none of an outcome" end
  return {
    hosts = indexes(args.hosts, hosts), status = args.status,
    text = optional(text, args.text, "text", MAX_TEXT),
  }
end

function notes.say(args, hosts)
  return {
    text = text(args.text, "text", MAX_TEXT),
    host = optional(integer, args.host, "host", 0, hosts - 1),
  }
end

-- ---- messages -----------------------------------------------------------------------------------

local takes = {}

function takes.effect(effect, hosts)
  object(effect, "effect")
  local kind, note = effect.kind, effect.note == true
  local check = (note and notes or kinds)[kind]
  if type(kind) ~= "string" or not check then wrong("there is no effect %s", tostring(kind)) end
  return {
    n = integer(effect.n, "n", 1, 1 << 40), path = plain(effect.path, "path", MAX_PATH),
    kind = kind, args = check(object(effect.args, "args"), hosts), note = note or nil,
    cleanup = effect.cleanup == true or nil,
  }
end

function takes.idle(taken) return integer(taken, "idle", 0, 1 << 40) end
function takes.print(line) return text(line, "print", MAX_VALUE) end

function takes.output(wanted, hosts)
  object(wanted, "output")
  if wanted.stream ~= "stdout" and wanted.stream ~= "stderr" then wrong "stream is none" end
  return {
    n = integer(wanted.n, "n", 1, 1 << 40), stream = wanted.stream,
    index = integer(wanted.index, "index", -1, hosts - 1),
  }
end

function takes.done(result)
  local err = optional(object, object(result, "done").error, "error")
  return {
    ok = boolean(result.ok, "ok"), value = result.value,
    hosts = optional(integer, result.hosts, "hosts", 0, 1 << 30),
    failed = optional(integer, result.failed, "failed", 0, 1 << 30),
    error = err and {
      code = plain(err.code, "code", MAX_NAME), message = text(err.message, "message", MAX_TEXT),
    },
  }
end

local function short(value) return text(value, "a report", MAX_TEXT) end
takes.stuck, takes.memory, takes.error = short, short, short

-- The message with its known fields only, or nil and what is wrong with it.
function messages.check(message, hosts)
  local name = type(message) == "table" and next(message)
  if not takes[name] or next(message, name) ~= nil then return nil, "a message of no known kind" end
  local ok, found = pcall(takes[name], message[name], hosts)
  if ok then return { [name] = found } end
  return nil, ("%s: %s"):format(name, type(found) == "table" and found.wrong or tostring(found))
end

return messages
