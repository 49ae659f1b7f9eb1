-- SPDX-License-Identifier: MIT
-- Runs one operation on a list of hosts, without a server: fan-outs whose records go to a view.
-- Ctrl-C, SIGTERM and a hang-up cancel it: what runs on hosts is killed, what has not started is
-- not started, and there is a record for each.
--
--   local done = fleet.run { inventory, hosts, plan, view, out }
--   done.records      by the host's place in hosts; none where nothing is known
--   done.interrupted  "INT", "TERM" or "HUP"

local config = require "exed.config"
local fanout = require "exed.fanout"
local fiber = require "exed.fiber"
local json = require "exed.json"
local own = require "exed.plan.own"
local reach = require "exed.reach"
local report = require "exed.cli.report"
local signal = require "exed.signal"
local timer = require "exed.timer"

local fleet = {}

-- Seconds that ending everything may take: a kill on a host takes up to 10.
local ENDING <const> = 15
-- How often the progress line is made anew, and when it first shows, in seconds.
local REDRAW <const>, FIRST <const> = 0.2, 0.5

-- ---- which host goes where ----------------------------------------------------------------------

local LONG <const> = { "stdout", "stderr", "stdout_b64", "stderr_b64", "facts" }

-- What a host said is the view's; what became of it is kept.
local function take(self, i, record, entry)
  self.count = self.count + 1
  if not report.is_good(record) then self.bad = self.bad + 1 end
  self.view:record(i, record, entry)
  for _, name in ipairs(LONG) do record[name] = nil end
  self.records[i] = record
end

-- Hosts by transport: { ssh = { hosts, indexes }, ["local"] = ... }.
local function sort_hosts(self)
  local groups, asks = {}, own.new(self.plan, config)
  for i, host in ipairs(self.hosts) do
    local record, mine = reach.untried(host, self.made.repeatable), nil
    if asks and not record then mine, record = asks:record_or(host) end
    if record then
      take(self, i, record, { data = json.encode(record), parts = 0 })
    else
      local kind = host.connection == "local" and "local" or self.plan.transport or "ssh"
      local group = groups[kind] or { hosts = {}, indexes = {}, own = {} }
      groups[kind] = group
      table.insert(group.hosts, reach.handle(self.inventory, host))
      table.insert(group.indexes, i)
      table.insert(group.own, mine or false)
    end
  end
  return groups
end

-- ---- running ------------------------------------------------------------------------------------

local function take_entry(self, entry)
  if entry.kind == "part" then
    self.view:part(entry.index, entry)
  else
    local record, err = json.decode(entry.data)
    record = record or { status = 3, error = "its record cannot be read: " .. err.message }
    take(self, entry.index, record, entry)
  end
end

-- Takes a fan-out's entries to its end.
local function consume(self, run)
  while true do
    local list = run:next()
    if not list then break end
    for _, entry in ipairs(list) do take_entry(self, entry) end
    self.out:flush()
    if self.out.closed and not self.stopped then
      self.stopped = self.out.closed
      self:cancel(self.stopped)
    end
  end
end

local function start_group(self, kind, group)
  local plan = {}
  for name, value in pairs(self.plan) do plan[name] = value end
  plan.transport = kind
  local run, err = fanout.start(plan, group.hosts, group.indexes, nil, group.own)
  if not run then error(err, 0) end
  self.runs[#self.runs + 1] = { run = run, indexes = group.indexes }
  self.active = self.active + 1
  -- Without it nobody would hear of its hosts.
  local started = fiber.vital("fan-out", function()
    local ok, problem = xpcall(consume, debug.traceback, self, run)
    if not ok then
      self.problem = self.problem or problem
      run:cancel "exed-run failed"
    end
    self.active = self.active - 1
    self.event:notify()
  end)
  assert(started, "no fiber for a fan-out")
end

function fleet:cancel(reason)
  for _, one in ipairs(self.runs) do one.run:cancel(reason) end
end

local function watch_signals(self)
  local name = signal.wait()
  self.interrupted = name
  self.deadline = timer.now() + ENDING
  self:cancel(report.INTERRUPTED)
  self.event:notify()
  -- Last: a terminal or pager that stands still holds this up.
  self.out:note "interrupted, ending what runs (once more to leave at once)"
  self.out:flush()
end

-- ---- the progress line --------------------------------------------------------------------------

-- The names of a few hosts that run, those that run longest first; of those that a file is sent to
-- with how much of it has gone.
local function running_names(self)
  local names = {}
  for _, one in ipairs(self.runs) do
    for _, host in ipairs(one.run:running(4)) do
      local far = host.size and (" %d%%"):format(100 * host.sent // host.size) or ""
      names[#names + 1] = self.hosts[host.index].name .. far
    end
  end
  local more = #names > 3 and ", ..." or ""
  return table.concat(names, ", ", 1, math.min(3, #names)) .. more
end

-- What has been sent, of files; a fan-out that has ended does not count any more.
local function sent_so_far(self)
  local sum = 0
  for _, one in ipairs(self.runs) do
    one.sent = math.max(one.sent or 0, one.run:sent())
    sum = sum + one.sent
  end
  return sum > 0 and (", %s sent"):format(report.bytes(sum)) or ""
end

local function progress(self)
  timer.sleep(FIRST)
  while true do
    local bad = self.bad > 0 and (", %d not good"):format(self.bad) or ""
    self.out:status(("[%d/%d%s%s, %.0f s] %s"):format(self.count, #self.hosts, bad,
      sent_so_far(self), timer.now() - self.began, running_names(self)))
    timer.sleep(REDRAW)
  end
end

-- ---- all of it ----------------------------------------------------------------------------------

local function wait_for_all(self)
  while self.active > 0 do
    local left = self.deadline and self.deadline - timer.now()
    if left and left <= 0 then return end
    self.event:wait(left or 60)
  end
end

-- what: inventory, hosts, plan (of fanout.start), made (the executor's plan), view, out.
function fleet.run(what)
  local self = setmetatable({
    inventory = what.inventory, hosts = what.hosts, plan = what.plan, made = what.made,
    view = what.view, out = what.out, records = {}, runs = {}, active = 0, count = 0, bad = 0,
    event = fiber.event(), began = timer.now(),
  }, { __index = fleet })
  local watching = assert(fiber.spawn("signals", watch_signals, self))
  local drawing = what.out.terminal[2] and fiber.spawn("progress", progress, self)
  for kind, group in pairs(sort_hosts(self)) do start_group(self, kind, group) end
  wait_for_all(self)
  watching:cancel()
  if drawing then drawing:cancel() end
  self.out:status(nil)
  if self.problem then error(self.problem, 0) end
  self.view:finish()
  self.out:flush()
  self.seconds = timer.now() - self.began
  return self
end

return fleet
