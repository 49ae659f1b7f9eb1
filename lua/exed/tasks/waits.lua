-- SPDX-License-Identifier: MIT
-- wait_up and wait_down: asks hosts again and again whether they answer, by ssh, by ping or at a
-- port, until all do (or do not any more), or until the time is over.
--
-- A host is down when nothing answers there. One that refuses the login, shows another key or whose
-- name has no address is neither up nor down: what is known of it is told in the record's error.
--
-- By ssh a host tells the id of its boot. One that is another than the last one seen says that the
-- host was down in between, also when nobody looked at that moment. What was seen is in the
-- answers, and so in the journal.

local config = require "exed.config"
local fanout = require "exed.fanout"
local fiber = require "exed.fiber"
local json = require "exed.json"
local proc = require "exed.proc"
local reach = require "exed.reach"
local timer = require "exed.timer"

local waits = {}

local EVERY <const> = 2 -- seconds between two probes
local PROBE <const> = 5 -- seconds that a command or a program may take for one
local AT_ONCE <const> = 32 -- programs that probe
local EVENT_WAIT <const> = 60 -- seconds; longer waits are asked for again
local BOOT_ID <const> = "cat /proc/sys/kernel/random/boot_id"

-- ---- by ssh -------------------------------------------------------------------------------------

local function make_plan(wait, transport)
  local ssh = config.ssh
  return {
    transport = transport, command = BOOT_ID, verdict = { [0] = 1, default = 3 }, timeout = PROBE,
    connect_timeout = ssh.connect_timeout, group = wait.jid,
    group_window = wait.window == nil and ssh.window or nil, window = wait.window,
    keep = false, op = wait.op_id, try = 1, lines = false,
    output_cap = config.store.output_cap, settle = config.runner.settle_timeout,
    fence_dir = ssh.fence_dir, fence_ttl = config.store.ttl,
  }
end

-- What a record says: up (true: it answered; false: nothing answers there; else nil), boot (when it
-- has such an id), why (it did not answer).
local function read_record(entry, text)
  local record = json.decode(entry.data) or {}
  local answered = record.rtc ~= nil and not record.timed_out
  local boot = answered and (text or record.stdout or ""):match "^[%x-]+"
  local up = answered or nil
  if entry.away then up = false end
  return { up = up, boot = boot or nil, why = record.error }
end

-- Reads the entries of one fan-out into found, by index.
local function collect(run, found)
  local texts = {}
  while true do
    local list = run:next()
    if not list then return end
    for _, entry in ipairs(list) do
      if entry.kind ~= "part" then
        found[entry.index] = read_record(entry, texts[entry.index])
      elseif entry.stream == 1 then
        texts[entry.index] = (texts[entry.index] or "") .. entry.data
      end
    end
  end
end

local function by_ssh(wait, indexes)
  local groups, found = {}, {}
  for _, index in ipairs(indexes) do
    local host = wait.host(index)
    local transport = host.connection == "local" and "local" or "ssh"
    local group = groups[transport] or { hosts = {}, indexes = {} }
    groups[transport] = group
    table.insert(group.hosts, reach.handle(wait.inventory, host))
    table.insert(group.indexes, index)
  end
  for transport, group in pairs(groups) do
    local run, err = fanout.start(make_plan(wait, transport), group.hosts, group.indexes)
    if not run then return nil, err.message end
    wait.begun(run)
    collect(run, found)
    wait.begun(nil)
  end
  return found
end

-- ---- by programs --------------------------------------------------------------------------------

-- Runs program(host) -> words for each host, a few at a time; read(result) says what it means.
local function by_program(indexes, wait, program, read)
  local found, event, next_one, running = {}, fiber.event(), 1, 0
  local function work()
    while next_one <= #indexes do
      local index = indexes[next_one]
      next_one = next_one + 1
      local result, err = proc.run {
        argv = program(wait.host(index)), timeout = PROBE, max = 1000, op = wait.op_id,
        env = { LC_ALL = "C" },
      }
      found[index] = result and read(result) or { problem = err and err.message }
    end
    running = running - 1
    event:notify()
  end
  for _ = 1, math.min(AT_ONCE, wait.window or AT_ONCE, #indexes) do
    local handle, err = fiber.spawn("wait", work)
    if not handle then return nil, err.message end
    running = running + 1
  end
  while running > 0 do event:wait(EVENT_WAIT) end
  return found
end

-- ping ends with 1 when no answer came, with others when it could not ask; without an end it waits
-- for the address of a name.
local function read_ping(result)
  if result.code == 0 or result.code == 1 then return { up = result.code == 0 } end
  return { why = "ping: " .. (result.stderr:match "[^\n]+" or "could not ask") }
end

local function by_icmp(wait, indexes)
  return by_program(indexes, wait, function(host)
    return { "ping", "-n", "-q", "-c", "1", "-W", "2", "--", host.address }
  end, read_ping)
end

local NOTHING_THERE <const> = {
  "Connection refused", "Connection timed out", "No route to host", "Network is unreachable",
}

-- bash opens a connection itself and closes it at once.
local CONNECT <const> = [[getent ahosts "$0" >/dev/null ||
{ echo "no address for $0" >&2; exit 2; }
echo found; exec 3<>"/dev/tcp/$0/$1"]]

-- bash says why it could not connect. No end within the time is no answer, once there is an
-- address.
local function read_connect(result)
  if result.code == 0 then return { up = true } end
  if result.timed_out then
    if result.stdout == "" then return { why = "no address within the time" } end
    return { up = false, why = "no answer" }
  end
  local why = result.stderr:match "[^\n]+" or "could not connect"
  for _, text in ipairs(NOTHING_THERE) do
    if why:find(text, 1, true) then return { up = false, why = text:lower() } end
  end
  return { why = why }
end

local function by_tcp(wait, indexes, port)
  return by_program(indexes, wait, function(host)
    return { "bash", "-c", CONNECT, host.address, port }
  end, read_connect)
end

-- The probe for via: fn(wait, indexes) -> found by index ({ up = true, false, or nil when it is not
-- known, boot, why, problem (it can never be known) }), or nil and why.
local function probe_of(via)
  if via == "ssh" then return by_ssh end
  if via == "icmp" then return by_icmp end
  local port = via:match "^tcp:(%d+)$"
  return function(wait, indexes) return by_tcp(wait, indexes, port) end
end

-- ---- waiting ------------------------------------------------------------------------------------

-- Whether the host is as it was waited for. seen: boot id by index, kept up to date.
local function is_so(op, one, index, seen)
  local before = seen[index]
  if one.boot then seen[index] = one.boot end
  if op == "wait_up" then return one.up == true end
  return one.up == false or (one.boot ~= nil and before ~= nil and one.boot ~= before)
end

local function seconds_since(wait, began) return math.floor((wait.now() - began) * 10) / 10 end

-- Takes what a probe found: hosts that are done get their record. Returns those that are not.
local function sort(wait, indexes, found, records, began)
  local pending = {}
  for _, index in ipairs(indexes) do
    local one = found[index] or {}
    if one.problem then
      records[#records + 1] = { i = index, status = 3, error = one.problem }
    elseif is_so(wait.op, one, index, wait.seen) then
      records[#records + 1] = {
        i = index, status = 1, seconds = seconds_since(wait, began), boot = wait.seen[index],
      }
    else
      wait.last[index] = one
      pending[#pending + 1] = index
    end
  end
  return pending
end

-- Why a host is not as it was waited for.
local function say_why(wait, one)
  local state = wait.op == "wait_up" and "up" or "down"
  if one.up == nil and one.why then state = "known to be " .. state end
  return ("not %s within %s s%s"):format(state, ("%g"):format(wait.timeout),
    one.why and ": " .. one.why or "")
end

-- The records of those that are not as they should be at the end.
local function end_others(wait, indexes, records, began)
  local stopped = wait.stopped()
  for _, index in ipairs(indexes) do
    local one = wait.last[index] or {}
    records[#records + 1] = {
      i = index, status = one.up == nil and one.why and 4 or 3,
      cancelled = stopped and true or nil, timed_out = not stopped or nil,
      seconds = seconds_since(wait, began), boot = wait.seen[index],
      error = stopped or say_why(wait, one),
    }
  end
end

-- Waits, by a probe. wait: op, timeout (seconds), spent (seconds of it that are over), seen (index
-- -> boot id), probe, now() (seconds), pause(seconds), stopped() -> reason or nil. Each host is
-- asked once at least. Returns the records (UNREACHABLE those of hosts that could not be asked at
-- the end), or nil and why.
function waits.follow(wait, indexes)
  local began, records, pending = wait.now() - (wait.spent or 0), {}, indexes
  wait.last = {}
  while not wait.stopped() do
    local found, problem = wait.probe(wait, pending)
    if not found then return nil, problem end
    pending = sort(wait, pending, found, records, began)
    local left = began + wait.timeout - wait.now()
    if #pending == 0 or left <= 0 then break end
    wait.pause(math.min(EVERY, left))
  end
  end_others(wait, pending, records, began)
  return records
end

-- Those of an effect's hosts that can be asked, and the records of the others.
local function sort_out(wait, indexes)
  local list, records = {}, {}
  for _, index in ipairs(indexes) do
    local host = wait.host(index)
    local record = not host and { status = 4, error = "not in the inventory any more" }
      or reach.untried(host, true)
    if record then
      record.i = index
      records[#records + 1] = record
    else
      list[#list + 1] = index
    end
  end
  return list, records
end

-- Whether an effect is one of these.
function waits.is(args) return args.op == "wait_up" or args.op == "wait_down" end

-- Does a wait_up or wait_down. args: of the effect; wait: host(index) -> host of the inventory or
-- nil, inventory, jid, op_id, seen, spent, pause(seconds), stopped() -> reason or nil, begun(run):
-- the fan-out that can be ended, nil when it is over. Returns the answer.
function waits.run(wait, args)
  wait.op, wait.timeout, wait.window = args.op, args.timeout, args.window
  wait.probe, wait.now = probe_of(args.fields.via), timer.now
  local list, records = sort_out(wait, args.hosts)
  local found, problem = waits.follow(wait, list)
  if not found then return { error = { code = "failed", message = problem } } end
  table.move(found, 1, #found, #records + 1, records)
  return { records = records }
end

-- Adds to seen what the answers of a journal tell; these are texts, mostly.
function waits.remember(seen, entries)
  for _, entry in ipairs(entries) do
    local text, answer = entry.text, entry
    if text then answer = text:find('"boot":', 1, true) and json.decode(text) or {} end
    for _, record in ipairs(entry.ans and answer.records or {}) do
      if record.boot then seen[record.i] = record.boot end
    end
  end
end

return waits
