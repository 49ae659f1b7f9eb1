-- SPDX-License-Identifier: MIT
-- The service operation: its plans as data, and its script under the shells that hosts have, with
-- stand-ins for their service managers.

local config = require "exed.config"
local plugins = require "exed.plugins"
local proc = require "exed.proc"
local service = require "exed.ops.service"
local t = require "support"

local dir = os.tmpname()
os.remove(dir)

local SHELLS <const> = {
  dash = { "/bin/dash" }, bash = { "/bin/bash" }, busybox = { "/bin/busybox", "sh" },
}

local OK <const>, CHANGED <const> = 0, 10

-- ---- plans --------------------------------------------------------------------------------------

local found = plugins.open {
  config = {
    runner = { modules = dir .. "/none" }, api = { dialects = { "exed" }, listen = {} },
  },
}

local function plan_of(args, executor)
  return found.executors[executor or "ssh"].operations.service { args = args }
end

t.test("a plan is fenced, quiet, and hands its words over in the environment", function()
  for _, executor in ipairs { "ssh", "local" } do
    local plan = plan_of({ name = "a@b.c", start = true, restart = false, graceful = false },
      executor)
    t.eq(plan.transport, executor)
    t.eq({ plan.fence, plan.quiet, plan.quiet_record, plan.repeatable }, { true, true, true, nil })
    t.eq(plan.verdict, { [0] = "OK", [10] = "CHANGED", default = "FAILED" })
    t.eq(plan.env, { "EXED_SERVICE=a@b.c", "EXED_STATE=started", "EXED_ENABLE=" })
    t.eq(plan.command:find("a@b.c", 1, true), nil)
  end
end)

t.test("the script is the same for all that may be asked", function()
  local commands = {}
  for state in pairs(service.STATES) do
    for _, name in ipairs { "nginx", "x@1" } do
      commands[plan_of(service.args(name, state, true)).command] = true
    end
  end
  local first = next(commands)
  t.eq(next(commands, first), nil)
end)

local STATES <const> = {
  { "0", false, "started" }, { "started", true, "started" }, { "1", false, "stopped" },
  { "stopped", true, "stopped" }, { "2", false, "restarted" }, { "restarted", nil, "restarted" },
  { "2", true, "reloaded" }, { "restarted", true, "reloaded" }, { "reloaded", false, "reloaded" },
}

t.test("numbers and names of states mean the same", function()
  for _, case in ipairs(STATES) do
    local plan = plan_of(service.args("nginx", case[1], case[2]))
    t.eq(plan.env[2], "EXED_STATE=" .. case[3], case[1])
  end
end)

t.test("the args are start, restart and graceful as booleans", function()
  t.eq(service.args("x", "0", nil),
    { name = "x", start = true, restart = false, graceful = false })
  t.eq(service.args("x", "1", true),
    { name = "x", start = false, restart = false, graceful = true })
  t.eq(service.args("x", "2", false),
    { name = "x", start = false, restart = true, graceful = false })
  t.eq(service.args("x", "reloaded"),
    { name = "x", start = false, restart = true, graceful = true })
end)

t.test("enabling is [ssh] service_enable's, unless the args say it", function()
  t.eq(config.ssh.service_enable, false)
  local args = service.args("x", "0")
  t.eq(plan_of(args).env[3], "EXED_ENABLE=")
  args.enable = true
  t.eq(plan_of(args).env[3], "EXED_ENABLE=yes")
end)

local BAD_NAMES <const> = {
  "", "-x", "--now", "a b", "a;b", "a'b", "$(x)", "a/b", "a\nb", "ä", "../x", ("x"):rep(256),
}

t.test("a name that is no service's is refused", function()
  for _, name in ipairs(BAD_NAMES) do
    local plan, message = plan_of { name = name, start = true, restart = false }
    t.eq({ plan, message }, { nil, "bad service name or state" }, name)
  end
  for _, args in ipairs { {}, { name = 5 }, { name = true } } do
    t.eq({ plan_of(args) }, { nil, "bad service name or state" })
  end
end)

-- ---- requests -----------------------------------------------------------------------------------

local methods = found.handlers["exed/service"].methods

-- What a request's fields are refused with, or nil.
local function refusal(fields, kind)
  fields.targets = "web01"
  local method = methods[kind == "text" and "GET" or "POST"]
  local checker = kind == "text" and method.checks.query or method.checks.body
  local values, err = checker:check(fields, kind or "json")
  return not values and err.message or nil
end

t.test("what is no state is refused in EXEd's words, in queries and bodies", function()
  for _, state in ipairs { 3, -1, 1.5, 2.0, true, "", "3", "1.0", "x", "start", "-1", {} } do
    t.eq(refusal { name = "nginx", state = state }, service.BAD, tostring(state))
  end
  for _, state in ipairs { "3", "", "x", "1 ", "99999999999999999999" } do
    t.eq(refusal({ name = "nginx", state = state }, "text"), service.BAD, state)
  end
  t.eq(refusal { name = "nginx" }, service.BAD)
  t.eq(refusal { state = 1 }, service.BAD)
  t.eq(refusal { name = 5, state = 1 }, service.BAD)
  for _, name in ipairs(BAD_NAMES) do
    t.eq(refusal { name = name, state = 1 }, service.BAD, name)
    t.eq(refusal({ name = name, state = "1" }, "text"), service.BAD, name)
  end
  t.has(refusal { name = "nginx", state = 2, graceful = "perhaps" }, "'graceful'")
end)

t.test("states come as integers, as text and by name", function()
  local names = { "0", "1", "2", "started", "stopped", "restarted", "reloaded" }
  for _, state in ipairs { 0, 1, 2, table.unpack(names) } do
    t.eq(refusal { name = "nginx", state = state, graceful = 1 }, nil, tostring(state))
    t.eq(refusal({ name = "x@y", state = tostring(state), graceful = "True" }, "text"), nil)
  end
end)

-- ---- the script ---------------------------------------------------------------------------------

local SYSTEMCTL <const> = [=[#!/bin/sh
echo "$*" >>"$FAKE/calls"
[ -z "$EXED_OP$EXED_SERVICE$EXED_STATE" ] || echo leaked >>"$FAKE/calls"
word=inactive
[ -f "$FAKE/$2" ] && read -r word <"$FAKE/$2"
next() {
  [ -f "$FAKE/$2.fails" ] && { cat "$FAKE/$2.fails" >&2; exit 5; }
  [ -f "$FAKE/$2.$1" ] && { cat "$FAKE/$2.$1" >"$FAKE/$2"; return; }
  echo "$3" >"$FAKE/$2"
}
case $1 in
is-system-running) [ -f "$FAKE/system" ] && cat "$FAKE/system" ;;
is-active)
  [ -f "$FAKE/later" ] && mv "$FAKE/later" "$FAKE/$2"
  echo "$word"
  [ "$word" = active ] || exit 3 ;;
start | restart) next "$1" "$2" active ;;
reload) next "$1" "$2" active ;;
stop) next "$1" "$2" inactive ;;
show) [ -f "$FAKE/$2.show" ] && cat "$FAKE/$2.show" ;;
status) echo "status of $2: $word"; exit 4 ;;
is-enabled) [ -f "$FAKE/$2.enabled" ] && echo enabled ;;
enable) : >"$FAKE/$2.enabled" ;;
disable) rm -f "$FAKE/$2.enabled" ;;
*) echo "unknown verb $1" >&2; exit 64 ;;
esac
]=]

local SERVICE <const> = [=[#!/bin/sh
echo "$*" >>"$FAKE/calls"
word=stopped
[ -f "$FAKE/$1" ] && read -r word <"$FAKE/$1"
[ -f "$FAKE/$1.unknown" ] && { echo "$1: unrecognized service" >&2; exit 1; }
case $2 in
status)
  [ -f "$FAKE/$1.usage" ] && { echo "Usage: $1 {start|stop}"; exit 3; }
  [ "$word" = upstart ] && { echo "$1 stop/waiting"; exit 0; }
  [ "$word" = slow ] && { echo running >"$FAKE/$1"; exit 3; }
  echo "$1 is $word"
  [ "$word" = running ] || exit 3 ;;
start | restart | reload)
  word=running
  [ -f "$FAKE/$1.$2" ] && read -r word <"$FAKE/$1.$2"
  echo "$word" >"$FAKE/$1" ;;
stop) echo stopped >"$FAKE/$1" ;;
esac
]=]

local function write(path, text, mode)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  if mode then assert(os.execute(("chmod %s '%s'"):format(mode, path))) end
end

-- A host: its programs in bin and sbin, and what its manager knows in `fake`.
local number = 0
local function make_host(programs, files)
  number = number + 1
  local host = dir .. "/" .. number
  assert(os.execute(("mkdir -p '%s/bin' '%s/sbin' '%s/fake'"):format(host, host, host)))
  for _, tool in ipairs { "cat", "head", "mv", "rm", "sleep" } do
    assert(os.execute(("ln -s \"$(command -v %s)\" '%s/bin/'"):format(tool, host)))
  end
  for path, text in pairs(programs) do write(host .. "/" .. path, text, "755") end
  for name, text in pairs(files or {}) do write(host .. "/fake/" .. name, text) end
  return host
end

local SYSTEMD <const> = { ["bin/systemctl"] = SYSTEMCTL }
local SYSV <const> = { ["bin/service"] = SERVICE }

-- The script with the paths of the host in place of those of this machine, and short pauses.
local function script_for(host, command)
  for from, to in pairs {
    ["/usr/sbin:/sbin"] = host .. "/sbin", ["/run/systemd/system"] = host .. "/booted",
    ["sleep 0.3"] = "sleep 0.01",
  } do
    local from_at, to_at = command:find(from, 1, true)
    assert(from_at, from .. " is not in the script")
    command = command:sub(1, from_at - 1) .. to .. command:sub(to_at + 1)
  end
  return command
end

-- Runs the operation; returns its exit code, its stderr and stdout, and what the manager was asked
-- to do, without what only looks.
local function run(shell, host, state, options)
  options = options or {}
  local args = service.args(options.name or "nginx", state, options.graceful)
  args.enable = options.enable or false
  local plan = assert(service.plan("local", args))
  local env = { PATH = host .. "/bin", FAKE = host .. "/fake", EXED_OP = "job.0.1.1" }
  for _, pair in ipairs(plan.env) do
    local name, value = pair:match "^([^=]+)=(.*)$"
    env[name] = value
  end
  local words = { table.unpack(SHELLS[shell]) }
  table.move({ "-c", script_for(host, plan.command) }, 1, 2, #words + 1, words)
  local got = assert(proc.run { argv = words, env = env, clean = true, timeout = 20 })
  local calls, file = {}, io.open(host .. "/fake/calls")
  for line in file and file:lines() or function() end do
    if not line:find "^is%-" and not line:find "^show " and not line:find "status" then
      calls[#calls + 1] = line
    end
  end
  if file then file:close() end
  os.remove(host .. "/fake/calls")
  return got.code, got.stderr, got.stdout, calls
end

-- One test for each shell.
local function each_shell(name, fn)
  for _, shell in ipairs { "dash", "bash", "busybox" } do
    t.test(("%s (%s)"):format(name, shell), function() fn(shell) end)
  end
end

local function expect(shell, host, state, want, options)
  local code, said, _, calls = run(shell, host, state, options)
  local what = ("%s, stderr %q"):format(state, said)
  t.eq(code, want[1], what)
  t.eq(calls, table.move(want, 2, #want, 1, {}), what)
  return said
end

each_shell("systemctl is asked for a change only when there is one to make", function(shell)
  local host = make_host(SYSTEMD)
  expect(shell, host, "started", { CHANGED, "start nginx" })
  expect(shell, host, "started", { OK })
  expect(shell, host, "restarted", { CHANGED, "restart nginx" })
  expect(shell, host, "restarted", { CHANGED, "reload nginx" }, { graceful = true })
  expect(shell, host, "reloaded", { CHANGED, "reload nginx" })
  expect(shell, host, "stopped", { CHANGED, "stop nginx" })
  expect(shell, host, "stopped", { OK })
  expect(shell, host, "restarted", { CHANGED, "restart nginx" })
end)

each_shell("`service` is used where systemctl is not, or another init runs", function(shell)
  for _, system in ipairs { "", "offline\n", "unknown\n" } do
    local programs = { ["bin/service"] = SERVICE, ["bin/systemctl"] = SYSTEMCTL }
    if system == "" then programs["bin/systemctl"] = nil end
    local host = make_host(programs, { system = system })
    expect(shell, host, "started", { CHANGED, "nginx start" })
    expect(shell, host, "started", { OK })
    expect(shell, host, "restarted", { CHANGED, "nginx restart" })
    expect(shell, host, "reloaded", { CHANGED, "nginx reload" })
    expect(shell, host, "stopped", { CHANGED, "nginx stop" })
    expect(shell, host, "stopped", { OK })
  end
end)

each_shell("systemd that runs is found without asking, degraded or not", function(shell)
  local host = make_host({ ["bin/service"] = SERVICE, ["bin/systemctl"] = SYSTEMCTL },
    { system = "degraded\n" })
  expect(shell, host, "started", { CHANGED, "start nginx" })
  write(host .. "/fake/system", "offline\n")
  assert(os.execute(("mkdir '%s/booted'"):format(host)))
  expect(shell, host, "stopped", { CHANGED, "stop nginx" })
end)

each_shell("`service` is found in the directories of administrators too", function(shell)
  expect(shell, make_host { ["sbin/service"] = SERVICE }, "started", { CHANGED, "nginx start" })
end)

each_shell("a host without a service manager is told", function(shell)
  t.eq(expect(shell, make_host {}, "started", { 127 }), "no service manager found\n")
end)

each_shell("a manager that fails is quoted, and its exit code is kept", function(shell)
  local host = make_host(SYSTEMD, { ["nginx.fails"] = "Unit nginx.service not found.\n" })
  for _, verb in ipairs { "start", "restart", "reload" } do
    local state = ({ start = "started", restart = "restarted", reload = "reloaded" })[verb]
    t.eq(expect(shell, host, state, { 5, verb .. " nginx" }), "Unit nginx.service not found.\n")
  end
  write(host .. "/fake/nginx", "active\n")
  t.eq(expect(shell, host, "stopped", { 5, "stop nginx" }), "Unit nginx.service not found.\n")
end)

each_shell("a manager that fails with the code of a verdict still fails", function(shell)
  local host = make_host { ["bin/systemctl"] = "#!/bin/sh\n[ $1 = is-active ] && exit 3\nexit 10" }
  t.eq(run(shell, host, "started"), 1)
end)

each_shell("a service that dies at once has failed, with its state", function(shell)
  for _, word in ipairs { "failed", "activating", "inactive" } do
    local host = make_host(SYSTEMD, { ["nginx.start"] = word .. "\n" })
    local said = expect(shell, host, "started", { 1, "start nginx" })
    t.has(said, ("nginx is %s after start\nstatus of nginx: %s"):format(word, word))
    host = make_host(SYSTEMD, { ["nginx.restart"] = word .. "\n" })
    t.has(expect(shell, host, "restarted", { 1, "restart nginx" }), "nginx is " .. word)
  end
end)

each_shell("a service that dies soon after its start has failed", function(shell)
  -- Each look gets the state that the one before has left in place.
  local host = make_host(SYSTEMD, { nginx = "active\n", later = "failed\n" })
  t.has(expect(shell, host, "restarted", { 1, "restart nginx" }), "nginx is failed after restart")
end)

each_shell("a unit that runs to its end is done when it is", function(shell)
  local files = { ["job.start"] = "inactive\n", ["job.show"] = "Type=oneshot\nResult=success\n" }
  expect(shell, make_host(SYSTEMD, files), "started", { CHANGED, "start job" }, { name = "job" })
  files["job.show"] = "Type=oneshot\nResult=exit-code\n"
  expect(shell, make_host(SYSTEMD, files), "started", { 1, "start job" }, { name = "job" })
  files["job.show"] = "Type=simple\nResult=success\n"
  expect(shell, make_host(SYSTEMD, files), "started", { 1, "start job" }, { name = "job" })
end)

each_shell("a service that goes on after a stop has failed", function(shell)
  local host = make_host(SYSTEMD, { nginx = "active\n", ["nginx.stop"] = "deactivating\n" })
  t.has(expect(shell, host, "stopped", { 1, "stop nginx" }), "nginx is deactivating after stop")
end)

each_shell("what is on its way up is stopped", function(shell)
  local host = make_host(SYSTEMD, { nginx = "activating\n" })
  expect(shell, host, "stopped", { CHANGED, "stop nginx" })
end)

each_shell("a service that failed is stopped already", function(shell)
  expect(shell, make_host(SYSTEMD, { nginx = "failed\n" }), "stopped", { OK })
end)

each_shell("stopping what does not exist fails", function(shell)
  local host = make_host(SYSTEMD, { ["nginx.show"] = "LoadState=not-found\n" })
  t.eq(expect(shell, host, "stopped", { 4 }), "status of nginx: inactive\n")
  host = make_host(SYSV, { ["nginx.unknown"] = "" })
  t.eq(expect(shell, host, "stopped", { 1, "nginx stop" }), "nginx: unrecognized service\n")
end)

each_shell("a manager that cannot be asked is no stopped service", function(shell)
  local host = make_host {
    ["bin/systemctl"] = "#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1",
  }
  for _, state in ipairs { "started", "stopped" } do
    t.eq({ run(shell, host, state) }, { 1, "Failed to connect to bus\n", "", {} }, state)
  end
end)

each_shell("a script without status is trusted", function(shell)
  local host = make_host(SYSV, { ["nginx.usage"] = "" })
  expect(shell, host, "started", { CHANGED, "nginx start" })
  expect(shell, host, "started", { CHANGED, "nginx start" })
  expect(shell, host, "stopped", { CHANGED, "nginx stop" })
end)

each_shell("a script that returns before its service is up is waited for", function(shell)
  expect(shell, make_host(SYSV, { ["nginx.start"] = "slow\n" }), "started",
    { CHANGED, "nginx start" })
end)

each_shell("`service` that shows a stopped job with success is understood", function(shell)
  expect(shell, make_host(SYSV, { nginx = "upstart\n" }), "started", { CHANGED, "nginx start" })
end)

each_shell("start and restart enable and stop disables, when that is asked", function(shell)
  local host = make_host(SYSTEMD)
  local on = { enable = true }
  expect(shell, host, "started", { CHANGED, "start nginx", "enable nginx" }, on)
  expect(shell, host, "started", { OK }, on)
  expect(shell, host, "stopped", { CHANGED, "stop nginx", "disable nginx" }, on)
  expect(shell, host, "stopped", { OK }, on)
  expect(shell, host, "restarted", { CHANGED, "restart nginx", "enable nginx" }, on)
  expect(shell, host, "stopped", { CHANGED, "stop nginx" })
  expect(shell, host, "stopped", { CHANGED, "disable nginx" }, on)
end)

each_shell("scripts are enabled by what the host has for it", function(shell)
  local LOG <const> = '#!/bin/sh\necho "${0##*/} $*" >>"$FAKE/calls"\n'
  local on = { enable = true }
  for tool, words in pairs {
    ["update-rc.d"] = { "update-rc.d nginx enable", "update-rc.d nginx disable" },
    chkconfig = { "chkconfig nginx on", "chkconfig nginx off" },
    ["rc-update"] = { "rc-update add nginx", "rc-update del nginx" },
  } do
    local host = make_host { ["bin/service"] = SERVICE, ["bin/" .. tool] = LOG }
    expect(shell, host, "started", { CHANGED, "nginx start", words[1] }, on)
    expect(shell, host, "stopped", { CHANGED, "nginx stop", words[2] }, on)
  end
  t.eq(expect(shell, make_host(SYSV), "started", { 127, "nginx start" }, on),
    "nothing found that can enable a service\n")
end)

os.execute(("rm -rf '%s'"):format(dir))
t.done()
