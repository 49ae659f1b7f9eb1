-- SPDX-License-Identifier: MIT
-- Plans of transport "process": one process on this node for all hosts of a slice or of a task's
-- effect, which is told of its hosts by a file and says what became of each on its descriptor 3
-- (exed.process.lines). It is started when the started bits of all its hosts are in the store, and
-- while this node may start hosts; it is ended with all that it started when the run is stopped,
-- when its time is over, and when this node is gone.

local base = require "exed.process.base"
local config = require "exed.config"
local dir = require "exed.process.dir"
local inventory = require "exed.inventory"
local json = require "exed.json"
local leftovers = require "exed.process.leftovers"
local lines = require "exed.process.lines"
local log = require "exed.log"
local program = require "exed.program"
local reach = require "exed.reach"
local records = require "exed.process.records"
local secrets = require "exed.tasks.secrets"
local timer = require "exed.timer"

local run = setmetatable({ kind = "process" }, base)
run.__index = run

local STEP <const> = 100 -- hosts, or lines, between two turns of the loop
local MARKS <const> = 1000 -- hosts whose started bits are asked for in one call
local SAID <const> = 1000 -- bytes of what it printed, in a record
local SKIPPED <const>, FAILED <const> = 2, 3

-- Runs the command ($1), and ends it when the node closes the socket: somebody else may own the
-- hosts by then. $2: the file that is its stdin, or "".
local WRAP <const> = [=[
(cat <&3 >/dev/null 2>&1; kill -9 "-$$") >/dev/null 2>&1 &
w=$!
if [ "$2" ]; then exec <"$2"; fi
/bin/sh -c "$1"
end=$?
kill -9 "$w"
exit "$end"
]=]

function run.start(node, work, made, group, repeatable)
  local self = base.new(run, node, work, made, group, repeatable)
  self.most = config.runner.processes
  return self
end

-- Its EXED_OP is this, the slice's number and a 1.
local function op_of(made) return made.op .. ".process" end

-- ---- before it starts ---------------------------------------------------------------------------

local FORMS = {}

function FORMS.names(host) return host.name end

FORMS["json-lines"] = function(host)
  local groups = {}
  for name in pairs(host.groups) do groups[#groups + 1] = name end
  table.sort(groups)
  return json.encode {
    name = host.name, address = host.address, port = host.port or config.ssh.port,
    user = host.user or config.ssh.user, groups = json.array(groups), vars = inventory.vars(host),
  }
end

-- Makes the directory with what it reads. Returns true, or nil, err.
local function prepare(self, hosts)
  local made, texts = self.made, {}
  local ok, err = dir.make(self.dir, { "hosts", "stdin" })
  if not ok then return nil, err end
  for i, host in ipairs(hosts) do
    texts[i] = FORMS[made.process.hosts_file](host.found) .. "\n"
    if i % STEP == 0 then timer.sleep(0) end
  end
  ok, err = dir.write(self.dir, "hosts", table.concat(texts))
  if ok and made.stdin then ok, err = dir.write(self.dir, "stdin", made.stdin) end
  return ok, err
end

local function may_start(self)
  return not self.paused and timer.now() < self.node.membership.permitted
end

local function is_over(self) return self.stop or self.left or self.draining end

-- Sets the started bits of all hosts. False: they may not start.
local function mark(self, hosts)
  if not self.marks then return true end
  for first = 1, #hosts, MARKS do
    local some = table.move(hosts, first, math.min(first + MARKS - 1, #hosts), 1, {})
    if not self.writer:mark(some) then return false end
  end
  return true
end

-- Waits until its hosts may start, and their bits are set under that permission. False: they may
-- not.
local function permit(self, hosts)
  while not is_over(self) do
    while not may_start(self) and not is_over(self) do self.event:wait(base.LOOK) end
    if is_over(self) then return false end
    local until_then = self.node.membership.permitted
    if not mark(self, hosts) then return false end
    -- Where it ran out meanwhile, the bits are asked for once more: the slice may be another's.
    if timer.now() < until_then and not self.paused then return not is_over(self) end
  end
  return false
end

-- ---- while it runs ------------------------------------------------------------------------------

local function environment(self)
  local list = table.move(self.made.env or {}, 1, #(self.made.env or {}), 1, {})
  list[#list + 1] = "EXED_HOSTS_FILE=" .. self.dir .. "/hosts"
  list[#list + 1] = "TMPDIR=" .. self.dir .. "/tmp"
  list[#list + 1] = ("EXED_WINDOW=%d"):format(self.made.window or config.ssh.window)
  return list
end

local function take_all(self, list)
  for i, line in ipairs(list) do
    local found = self.lines:take(line)
    if found then self.writer:done(found.host, found) end
    if self.lines.count > lines.MAX_WRONG and not self.flooded then
      self.flooded = true
      self:kill()
    end
    if i % STEP == 0 then
      self.writer:flush()
      timer.sleep(0)
    end
  end
end

-- Seconds until it is to be looked at, and whether its time is over.
local function patience(self)
  if not self.deadline or self.overdue then return base.IDLE end
  local left = self.deadline - timer.now()
  if left > 0 then return math.min(left, base.IDLE) end
  self.overdue = true
  self:kill()
  return base.LOOK
end

-- Reads to its end.
local function attend(self, child)
  while true do
    local list, err = child:lines(patience(self))
    if list then take_all(self, list) elseif err.code == "closed" then return end
    self.writer:flush()
  end
end

local function start(self, hosts)
  local made = self.made
  local child, err = program.start {
    argv = { "/bin/sh", "-c", WRAP, "sh", made.command, made.stdin and self.dir .. "/stdin" or "" },
    env = environment(self), cwd = made.cwd, op = ("%s.%d.1"):format(op_of(made), self.work.k),
    line_max = lines.MAX + 1,
  }
  if not child then return nil, err end
  for _, host in ipairs(hosts) do self:begin(host) end
  if made.timeout > 0 then self.deadline = timer.now() + made.timeout end
  return child
end

function run:play(hosts)
  local ok, err = prepare(self, hosts)
  if not ok then return nil, err end
  self.lines = lines.new(self)
  if not permit(self, hosts) then
    if self.stop then self:settle(nil) end
    return true
  end
  local child <close>, failed = start(self, hosts)
  if not child then return nil, failed end
  self.child = child
  attend(self, child)
  self.child = nil
  self:settle(child:ended())
  return true
end

-- ---- the end ------------------------------------------------------------------------------------

-- The last lines of what it printed.
local function last_words(self, said)
  said = secrets.mask(said, self.made.hidden or {}):gsub("%s+$", "")
  if #said > SAID then said = said:sub(-SAID):gsub("^[^\n]*\n", "") end
  return said
end

-- Why hosts are left without a word.
local function why_of(self, ended)
  if not ended then return "its process was not started" end
  if ended.error and not ended.code and not ended.signal then return ended.error end
  local how = self.flooded and "its process was ended, since too many of its lines are no records"
    or ended.signal and "its process was ended by signal " .. ended.signal
    or "its process ended with code " .. tostring(ended.code or "unknown")
  local parts = { how .. " and said nothing of this host" }
  local wrong, said = self.lines and self.lines:wrong() or "", last_words(self, ended.said or "")
  if wrong ~= "" then parts[#parts + 1] = wrong end
  if said ~= "" then parts[#parts + 1] = said end
  return table.concat(parts, ": ")
end

local function put_kill(record, ended)
  if not ended.killed_by then return end
  record:put("killed", ended.killed or false)
  record:put("survivors", ended.survivors)
  record:put("killed_by", ended.killed_by)
end

-- A host that it worked on, and said nothing of.
local function broken(self, host, ended, why)
  local record, overdue = records.new(host), self.overdue and not self.stop
  if overdue then
    record:put("rtc", 124)
    record:put("timed_out", true)
  end
  if self.stop then record:put("cancelled", true) end
  put_kill(record, ended)
  if ended.signal and not ended.killed_by then record:put("unknown", true) end
  record:put("error", self.stop or overdue and "time limit" or why)
  record:times()
  return { status = FAILED, record = record }
end

local function unstarted(self, host, why)
  local record = records.new(host)
  record:put("error", self.stop or why)
  return { status = self.stop and SKIPPED or FAILED, record = record }
end

function run:settle(ended)
  if self.left then return end
  local why = why_of(self, ended)
  for _, host in ipairs(self:of_phase "running") do
    self.writer:done(host, broken(self, host, ended or {}, why))
  end
  if self.stop and self.draining then return end
  for _, host in ipairs(self:of_phase "waiting") do
    self.writer:done(host, unstarted(self, host, why))
  end
end

-- ---- what a lost node has left of it ------------------------------------------------------------

-- Kills what still runs here of the process of that slice. Waits.
function run.sweep(work, made)
  local asked = { op = op_of(made), transport = "local" }
  local found = leftovers.kill(asked, { reach.stranger "this node" }, { work.k })[work.k]
  if found and found.killed then
    log.warn("process", "jid=%s slice=%d: what a lost node had left of it was killed", work.jid,
      work.k)
  end
end

return run
