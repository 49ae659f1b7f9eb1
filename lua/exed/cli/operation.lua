-- SPDX-License-Identifier: MIT
-- What the verbs that run an operation on hosts have in common: their options, the plan, how
-- records are shown, the summary and the exit code.

local config = require "exed.config"
local fanout = require "exed.fanout"
local fleet = require "exed.cli.fleet"
local json = require "exed.json"
local names = require "exed.inventory.names"
local options = require "exed.cli.options"
local output = require "exed.cli.output"
local plan = require "exed.plan"
local plan_view = require "exed.cli.plan_view"
local plugins = require "exed.plugins"
local preview = require "exed.preview"
local report = require "exed.cli.report"
local sending = require "exed.sending"
local sys = require "exed.sys"
local targets = require "exed.cli.targets"
local views = require "exed.cli.views"

local operation = {}

local INTERRUPTED <const> = 130

operation.options = {
  targets.options.inventory,
  { "window", "f", type = "integer", min = 1, value = "N", shown = "[ssh] window, 500",
    help = "hosts at once" },
  { "timeout", "t", type = "duration", value = "TIME", shown = "[ssh] command_timeout",
    help = "limit of the operation on each host: 90, 90s, 5m, 2h; over it what it started there "
      .. "is killed" },
  { "connect-timeout", "T", type = "duration", value = "TIME", shown = "[ssh] connect_timeout, 10s",
    help = "limit from the first packet to the end of login" },
  { "user", "u", type = "string", value = "NAME", help = "log in as this user, whatever the "
    .. "inventory says" },
  { "key", "k", type = "string", value = "FILE", help = "log in with this private key, whatever "
    .. "the inventory says" },
  { "executor", type = "string", value = "NAME", shown = "[runner] executor, ssh",
    help = "who does the operation" },
  targets.options.max_hosts,
  { "dry-run", help = "touch nothing: print what would be done, and on which hosts at once" },
  { "fold", "b", help = "at the end, identical results once, with their hosts as ranges" },
  { "json", help = "one JSON object per host and line, as hosts finish" },
  { "quiet", "q", help = "no summary" },
}

operation.after = targets.pattern_help .. [[


Results go to standard output, everything else to standard error. On a terminal control characters
of hosts are shown escaped; into a file or a pipe they go as they came. Ctrl-C kills what runs on
the hosts, says what had finished, and ends with code 130.

Exit codes: 0 all hosts went well, 1 some did not, 2 wrong usage, 130 interrupted.]]

-- The options of all, and a verb's own before them.
function operation.with(own)
  local list = table.move(own, 1, #own, 1, {})
  return table.move(operation.options, 1, #operation.options, #list + 1, list)
end

-- ---- what was asked -----------------------------------------------------------------------------

local function check(given)
  if given.json and given.fold then options.refuse "--json and --fold exclude each other" end
  if given.user then
    local ok, problem = names.check_user(given.user)
    if not ok then options.refuse("option --user: %s", problem) end
  end
  if given.key and not sys.stat(given.key) then
    options.refuse("option --key: there is no file %s", given.key)
  end
end

-- The executor of that name: yours in [runner] modules, else the one that is shipped.
local function load_executor(name)
  if not name:find "^[%w_-]+$" then options.refuse("option --executor: %q is no name", name) end
  for _, dir in ipairs { config.runner.modules, sys.share() } do
    local path = ("%s/executors/%s.lua"):format(dir, name)
    if sys.stat(path) then
      local found, problem = plugins.load(path, "executor", name)
      if not found then error({ code = "failed", message = problem }, 0) end
      return found
    end
  end
  options.refuse("there is no executor %q", name)
end

-- The executor's plan, and what fanout.start takes.
local function make_plan(given, what, hosts)
  local name = given.executor or config.runner.executor
  local node = { config = config, plugins = { executors = { [name] = load_executor(name) } } }
  local request = {
    operation = what.operation, args = what.args, executor = name, count = #hosts,
    timeout = given.timeout, window = given.window,
  }
  local made, err = plan.ask(node, request, hosts)
  if not made then options.refuse("%s", err.message) end
  local job = { jid = sys.uuid(), request = request, slices = 1, total = #hosts }
  local filled = plan.fill(node, job, { k = 0 }, made)
  filled.keep = false -- nobody comes back for it
  filled.connect_timeout = given["connect-timeout"] or filled.connect_timeout
  filled.stdin = what.stdin or filled.stdin
  return filled, made
end

local function apply_login(given, hosts)
  for _, host in ipairs(hosts) do
    host.user, host.key = given.user or host.user, given.key or host.key
  end
end

-- The fields that came as JSON, for people.
local function say_fields(record)
  local fields = {}
  for name, value in pairs(record) do fields[name] = value end
  for _, name in ipairs(fanout.own_names()) do fields[name] = nil end
  return next(fields) and json.encode(fields) or ""
end

local function open_view(given, out, hosts, what)
  local store = config.store
  local bounds = { cap = store.output_cap, total = store.job_output, say = what.say }
  if given.json then return views.json(out, hosts, bounds) end
  if given.fold then return views.folded(out, hosts, bounds) end
  return views.live(out, hosts, { prefix = not given["no-prefix"], say = what.say })
end

-- ---- the end ------------------------------------------------------------------------------------

local function all_good(done, count)
  for i = 1, count do
    if not done.records[i] or not report.is_good(done.records[i]) then return false end
  end
  return true
end

local function conclude(given, out, done, hosts, unknown, what)
  for _, name in ipairs(unknown) do out:note("no host is called %s", name) end
  if done.interrupted then
    for _, line in ipairs(report.interrupted(hosts, done.records)) do out:note("%s", line) end
  elseif not given.quiet then
    out:note("%s", report.summary(done.records, done.seconds, what.plain))
  end
  if done.stopped then
    out:note("%s: the rest was cancelled", done.stopped)
  elseif out.closed then
    out:note("%s", out.closed)
  end
  out:flush()
  if done.interrupted then return INTERRUPTED end
  return all_good(done, #hosts) and #unknown == 0 and not out.closed and 0 or 1
end

-- What would be done, printed; returns the exit code.
local function rehearse(given, hosts, unknown, what, made)
  local made_up, steps, outcomes = preview.new {
    operation = what.operation, args = what.args, made = made, hosts = hosts, unknown = unknown,
    window = given.window or config.ssh.window,
  }, {}, {}
  for i, host in ipairs(hosts) do steps[#steps + 1], outcomes[host.name] = made_up:step(i) end
  local found = made_up:ending()
  found.steps, found.outcomes, found.no_match = steps, outcomes, unknown
  return plan_view(found, given)
end

-- Runs an operation by the options of a command line; returns the exit code.
-- what: operation, args, stdin, say(record) -> the text for a host that went well (nil: none),
-- plain (a change is counted as ok)
function operation.run(given, text, what)
  check(given)
  local inventory = targets.open(given)
  local hosts, unknown = targets.match(inventory, text)
  targets.limit(given, #hosts + #unknown)
  apply_login(given, hosts)
  local filled, made = make_plan(given, what, hosts)
  if filled.json then what.say = what.say or say_fields end
  if given["dry-run"] then return rehearse(given, hosts, unknown, what, made) end
  local out = output.new()
  local view = open_view(given, out, hosts, what)
  filled.lines, filled.output_cap = view.lines and not made.quiet_record, view.cap
  if what.stdin_of then filled.stdin = what.stdin_of(out) or filled.stdin end
  local sent, problem = sending.attach(filled, made)
  if not sent then options.refuse("%s", problem.message) end
  local done = fleet.run {
    inventory = inventory, hosts = hosts, plan = filled, made = made, view = view, out = out,
  }
  return conclude(given, out, done, hosts, unknown, what)
end

return operation
