-- SPDX-License-Identifier: MIT
-- The service operation, which the executors ssh and local share: it brings one service of a host
-- into a state, by the host's own service manager, and says whether it had to.
--
--   service.plan("ssh", request.args) -> plan | nil, message
--     args: name, start, restart, graceful (false); enable (default [ssh] service_enable)
--   service.STATES, service.NAME, service.BAD       what a request may say, for handlers
--   service.args(name, state, graceful) -> args     from a request's fields

local config = require "exed.config"

local service = {}

service.BAD = "bad service name or state"

-- No name may be read as an option.
service.NAME = "^[%w_][%w@._:-]*$"
service.NAME_BYTES = 255

local START <const> = { start = true, restart = false }
local STOP <const> = { start = false, restart = false }
local RESTART <const> = { start = false, restart = true }
local RELOAD <const> = { start = false, restart = true, graceful = true }

-- A request's state, as a number or a name.
service.STATES = {
  ["0"] = START, started = START, ["1"] = STOP, stopped = STOP, ["2"] = RESTART,
  restarted = RESTART, reloaded = RELOAD,
}

-- The script's exit codes; of a manager that fails it is the manager's own.
local VERDICT <const> = { [0] = "OK", [10] = "CHANGED", default = "FAILED" }

-- For any POSIX sh. The words of the service manager go out as they are: the record of a failure
-- takes its error from them. systemctl is asked as `systemctl VERB NAME`, the options last.
--
-- What is started gets nothing of exed's environment: a service that carried the op's id would be
-- taken for what the op has left running.
local SCRIPT <const> = [=[
name=$EXED_SERVICE want=$EXED_STATE enable=$EXED_ENABLE
unset EXED_SERVICE EXED_STATE EXED_ENABLE EXED_OP
end=0
newline='
'

fail() {
  case $1 in
  0 | 10) exit 1 ;;
  esac
  exit "$1"
}

pause() { sleep 0.3 2>/dev/null || sleep 1; }

# systemctl may be installed where another init runs.
runs_systemd() {
  command -v systemctl >/dev/null 2>&1 || return 1
  [ -d /run/systemd/system ] && return 0
  case $(systemctl is-system-running 2>/dev/null) in
  offline | unknown) return 1 ;;
  esac
}

find_manager() {
  if runs_systemd; then
    manager=systemctl
  elif command -v service >/dev/null 2>&1; then
    manager=service
  else
    return 1
  fi
}

act() {
  if [ "$manager" = systemctl ]; then
    systemctl "$1" "$name"
  else
    service "$name" "$1"
  fi
}

describe() {
  if [ "$manager" = systemctl ]; then
    systemctl status "$name" --no-pager --lines=5 2>&1
  else
    service "$name" status 2>&1
  fi | head -n 12
}

# An exit code that has a meaning by LSB, unless it only says how the script is to be used.
look_service() {
  said=$(service "$name" status 2>&1)
  code=$?
  case $code in
  0) state=active word=running ;;
  1 | 2 | 3) state=inactive word='not running' ;;
  *) state=unknown word='in an unknown state' ;;
  esac
  case $code:$said in
  0:*stop/waiting*) state=inactive word='not running' ;;
  0:*) ;;
  *[Uu]sage:* | *unrecognized* | *'does not exist'* | *'not found'*) state=unknown ;;
  esac
}

# state: active, inactive, busy (on its way) or unknown; word: the manager's for it.
look() {
  if [ "$manager" = service ]; then
    look_service
    return
  fi
  said=$(systemctl is-active "$name" 2>&1)
  code=$?
  word=${said##*"$newline"}
  state=inactive
  [ "$code" != 0 ] || state=active
  case $code:$word in
  0:*) ;;
  *:activating | *:deactivating | *:reloading | *:refreshing | *:maintenance) state=busy ;;
  *:inactive | *:failed | *:unknown | [34]:*) ;;
  *: ) word=inactive ;;
  *)
    printf '%s\n' "$said" >&2
    fail "$code"
    ;;
  esac
}

change() {
  end=10
  act "$1" && return
  code=$?
  describe
  fail "$code"
}

wrong() {
  printf '%s\n' "$name is $word after $1" >&2
  describe >&2
  fail 1
}

# What runs to its end and is done is as good as up.
is_done() {
  [ "$manager:$word" = systemctl:inactive ] || return 1
  said=$(systemctl show "$name" -p Type -p Result 2>/dev/null)
  case $newline$said$newline in
  *"${newline}Type=oneshot$newline"*) ;;
  *) return 1 ;;
  esac
  case $newline$said$newline in
  *"${newline}Result=success$newline"*) ;;
  *) return 1 ;;
  esac
}

# A service may die right after a start that went well. Scripts may return before it is up.
up() {
  look
  tries=10
  while [ "$manager:$state" = service:inactive ] && [ "$tries" -gt 0 ]; do
    pause
    look
    tries=$((tries - 1))
  done
  if [ "$state" = active ]; then
    pause
    look
  fi
  case $state in
  active) ;;
  unknown) [ "$manager" = service ] || wrong "$1" ;;
  *) is_done || wrong "$1" ;;
  esac
}

down() {
  look
  tries=10
  while [ "$state" = active ] || [ "$state" = busy ]; do
    [ "$tries" -gt 0 ] || wrong stop
    pause
    look
    tries=$((tries - 1))
  done
}

# Nothing of that name is not active either; the manager is asked to say so.
exists() {
  [ "$manager" = systemctl ] || return 0
  case $(systemctl show "$name" -p LoadState 2>/dev/null) in
  LoadState=not-found) ;;
  *) return 0 ;;
  esac
  systemctl status "$name" >&2
  fail $?
}

# Of scripts it is not known whether they were enabled before.
enable_script() {
  on=$1
  [ "$1" = enable ] && onoff=on addel=add || { onoff=off addel=del; }
  if command -v update-rc.d >/dev/null 2>&1; then
    update-rc.d "$name" "$on"
  elif command -v chkconfig >/dev/null 2>&1; then
    chkconfig "$name" "$onoff"
  elif command -v rc-update >/dev/null 2>&1; then
    rc-update "$addel" "$name"
  else
    echo "nothing found that can $on a service" >&2
    fail 127
  fi || fail $?
}

enable_unit() {
  word=$(systemctl is-enabled "$name" 2>/dev/null)
  case $1:$?:$word in
  enable:0:enabled-runtime) ;;
  enable:0:* | disable:[!0]*) return ;;
  disable:0:static | disable:0:alias | disable:0:indirect) return ;;
  disable:0:generated | disable:0:transient) return ;;
  esac
  systemctl "$1" "$name" || fail $?
  end=10
}

find_manager || {
  PATH=${PATH:+$PATH:}/usr/sbin:/sbin
  export PATH
  find_manager
} || {
  echo 'no service manager found' >&2
  exit 127
}

boot=enable
case $want in
started)
  look
  [ "$state" = active ] || { change start && up start; }
  ;;
stopped)
  boot=disable
  look
  if [ "$state" = inactive ]; then
    exists
  else
    change stop
    down
  fi
  ;;
restarted)
  change restart
  up restart
  ;;
reloaded)
  change reload
  up reload
  ;;
esac

if [ "$enable" = yes ]; then
  case $manager in
  systemctl) enable_unit "$boot" ;;
  service) enable_script "$boot" ;;
  esac
fi
exit "$end"
]=]

-- What a request's checked name, state and graceful mean as the operation's args.
function service.args(name, state, graceful)
  local found = service.STATES[state]
  return {
    name = name, start = found.start, restart = found.restart,
    graceful = found.graceful or graceful or false,
  }
end

local function state_of(args)
  if args.restart then return args.graceful and "reloaded" or "restarted" end
  return args.start and "started" or "stopped"
end

-- Whether the args name a service.
function service.is_good(args)
  return type(args.name) == "string" and #args.name <= service.NAME_BYTES
    and args.name:find(service.NAME) ~= nil
end

-- How it is done over that transport.
function service.plan(transport, args)
  if not service.is_good(args) then return nil, service.BAD end
  local enable = args.enable
  if enable == nil then enable = config.ssh.service_enable end
  return {
    transport = transport,
    command = SCRIPT,
    env = {
      "EXED_SERVICE=" .. args.name, "EXED_STATE=" .. state_of(args),
      "EXED_ENABLE=" .. (enable and "yes" or ""),
    },
    verdict = VERDICT,
    fence = true,
    quiet = true,
    quiet_record = true,
  }
end

return service
