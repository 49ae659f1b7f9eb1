-- SPDX-License-Identifier: MIT
-- One run of Ansible over the hosts of a slice or of a task's effect. For its owner it is as a
-- fan-out: cancel, pause, drain, abandon, running, waiting, wait. No task of Ansible's starts on a
-- host before `go` was sent: after the host's started bit is in the store, and while this node may
-- start hosts.

local base = require "exed.process.base"
local config = require "exed.config"
local fiber = require "exed.fiber"
local files = require "exed.ansible.files"
local json = require "exed.json"
local leftovers = require "exed.ansible.leftovers"
local log = require "exed.log"
local outcomes = require "exed.ansible.outcomes"
local program = require "exed.program"
local timer = require "exed.timer"

local run = setmetatable({ kind = "ansible" }, base)
run.__index = run

local MAX_VALUES <const> = 1000000 -- in one line of Ansible's plugin
local LOOK <const>, IDLE <const> = base.LOOK, base.IDLE
-- Seconds after a host's time limit in which Ansible must have noticed that it was ended there.
local GRACE <const> = 20

-- work, made: as targets.run has them; group: handles, indexes and found (hosts of the inventory).
function run.start(node, work, made, group, repeatable)
  local self = base.new(run, node, work, made, group, repeatable)
  self.plan, self.killing = made.ansible, 0
  self.most = config.ansible.processes
  return self
end

-- ---- starting hosts -----------------------------------------------------------------------------

-- Lets Ansible start the host that it waits for, if that may be now.
local function serve(self)
  local host = self.pending
  if not host or self.paused or self.stop or self.left then return end
  if host.overdue then -- its time is over, and Ansible goes on with it all the same
    self.pending, self.stuck = nil, true
    return self:kill()
  end
  if host.phase == "waiting" and self.marks and not host.marked then
    if not self.writer:mark { host } then return end
    host.marked = true
  end
  if timer.now() >= self.node.membership.permitted or self.stop then return end
  if host.phase == "waiting" then
    self:begin(host)
    if self.made.timeout > 0 then host.deadline = host.at + self.made.timeout end
  end
  self.pending = nil
  self.child:send "go\n"
end

-- ---- time limits --------------------------------------------------------------------------------

-- The hosts of the list that Ansible has not spoken of since their time was over.
local function unheard(list)
  local left = {}
  for _, host in ipairs(list) do
    if not host.reported then left[#left + 1] = host end
  end
  return left
end

-- Kills what runs on hosts whose time is over, until Ansible has noticed it: before that, it may
-- only be about to start something there. When it does not notice, it is ended itself.
local function end_overdue(self, hosts)
  self.killing = self.killing + 1
  local _ <close> = setmetatable({}, { __close = function()
    self.killing = self.killing - 1
    self.event:notify()
  end })
  local deadline, last = timer.now() + GRACE, {}
  while #hosts > 0 and self.child and timer.now() < deadline do
    local found = leftovers.kill(self, hosts)
    for _, host in ipairs(hosts) do last[host.index] = found[host.index] or last[host.index] end
    self.event:wait(LOOK)
    for _, host in ipairs(hosts) do
      if host.reported then self:account(host, outcomes.timed_out, last[host.index]) end
    end
    hosts = unheard(hosts)
    if #hosts > 0 and self.child then self.event:wait(1) end
  end
  if #hosts == 0 or not self.child then return end
  log.warn("ansible", "jid=%s: it does not notice the end of %s", self.work.jid, hosts[1].name)
  self.stuck, self.again = true, self.plan.mode == "task"
  self:kill()
end

local function watch_limits(self)
  local now, overdue = timer.now(), {}
  for _, host in ipairs(self.hosts) do
    if host.phase == "running" and host.deadline and not host.overdue and now >= host.deadline then
      host.overdue = true
      overdue[#overdue + 1] = host
    end
  end
  if #overdue == 0 or fiber.spawn("ansible limit", end_overdue, self, overdue) then return end
  for _, host in ipairs(overdue) do host.overdue = nil end -- at the next look
end

-- Seconds until something is to be done that no line announces.
local function patience(self)
  if self.pending or self.killing > 0 then return LOOK end
  local seconds, now = IDLE, timer.now()
  for _, host in ipairs(self.hosts) do
    if host.phase == "running" and host.deadline and not host.overdue then
      seconds = math.min(seconds, math.max(0.01, host.deadline - now))
    end
  end
  return seconds
end

-- ---- what Ansible's plugin says -----------------------------------------------------------------

local function take(self, line)
  local message, err = json.decode(line, MAX_VALUES)
  if type(message) ~= "table" then
    log.error("ansible", "jid=%s: a line is no JSON: %s", self.work.jid, err and err.message or "")
    return self:kill()
  end
  if message.stats then
    self.stats = message.stats
    return
  end
  if message.over then return outcomes.take_over(self, message.over) end
  local name = message.start or message.host
  local host = self.by_name[name]
  if message.start then
    -- Hosts that the playbook itself adds are Ansible's business.
    self.pending = host or { name = name, phase = "foreign" }
  elseif host then
    outcomes.take(self, host, message)
  end
end

-- Talks with it until it has ended.
local function attend(self, child)
  while true do
    local lines, err = child:lines(patience(self))
    for _, line in ipairs(lines or {}) do take(self, line) end
    if not lines and err.code == "closed" then return end
    self.writer:flush()
    serve(self)
    watch_limits(self)
  end
end

-- ---- the end ------------------------------------------------------------------------------------

-- Accounts for the hosts that have no record when Ansible has ended.
function run:settle(ended)
  while self.killing > 0 do self.event:wait(LOOK) end
  if self.left then return end
  if self.stats then outcomes.take_stats(self) end
  local waiting, running = self:of_phase "waiting", self:of_phase "running"
  local why = outcomes.why(self, ended)
  local found = #running > 0 and leftovers.kill(self, running) or {}
  for _, host in ipairs(running) do
    self:account(host, host.overdue and outcomes.timed_out or function(_, _, left)
      return outcomes.broken(self, host, left, why)
    end, found[host.index])
  end
  if self.again or self.stop and self.draining then return end
  for _, host in ipairs(waiting) do
    self.writer:done(host, outcomes.unstarted(self, host, why))
  end
end

local function forks(self)
  local most = config.runner.concurrency
  return math.max(1, math.min(most, self.made.window or most))
end

-- One process over the hosts that have not started.
function run:play(hosts)
  local found, ops = {}, {}
  for i, host in ipairs(hosts) do found[i], ops[i] = host.found, host.op end
  local ok, err = files.make(self.dir)
  if ok then ok, err = files.fill(self.node, self.dir, self.plan, found, ops, self.made) end
  if not ok then return nil, err end
  local child <close>, failed = program.start {
    argv = files.command(self.dir, self.plan, forks(self)), env = files.environment(self.dir),
    cwd = config.ansible.workdir, op = ("%s.ansible.%d"):format(self.made.op, self.work.k),
  }
  if not child then return nil, failed end
  self.child, self.again, self.stuck, self.pending, self.stats = child, nil, nil, nil, nil
  child:send(json.encode {
    mode = self.plan.mode, facts = self.plan.facts, cap = self.made.output_cap,
    environment = files.OP,
  } .. "\n")
  if self.stop or self.left then child:kill() end -- while the files were made
  attend(self, child)
  self.child = nil
  self.event:notify()
  self:settle(child:ended())
  self.writer:flush()
  return true
end

return run
