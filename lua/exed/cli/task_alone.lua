-- SPDX-License-Identifier: MIT
-- Runs a task in this process, without a server and without a journal. Rows are those that a server
-- would give, so that both look the same. Ctrl-C and a time limit cancel the task, and what it
-- deferred is run.

local alone = require "exed.alone"
local config = require "exed.config"
local fail = require "exed.task.fail"
local fiber = require "exed.fiber"
local files = require "exed.tasks.files"
local follower = require "exed.cli.follower"
local inventory = require "exed.inventory"
local options = require "exed.cli.options"
local output = require "exed.cli.output"
local person = require "exed.cli.person"
local pins = require "exed.tasks.pins"
local program = require "exed.task.program"
local records = require "exed.task.records"
local secrets = require "exed.tasks.secrets"
local registry = require "exed.tasks.registry"
local signal = require "exed.signal"
local stdio = require "exed.stdio"
local sys = require "exed.sys"
local targets = require "exed.cli.targets"
local text = require "exed.text"
local timer = require "exed.timer"

local INTERRUPTED <const> = 130
local STREAMS <const> = { "stdout", "stderr" }
local MAX_LINE <const> = 4096 -- bytes of an answer to a question

local run = {}
run.__index = run

-- ---- what is shown ------------------------------------------------------------------------------

local function name_of(self, index) return index < 0 and "node" or self.hosts[index + 1].name end

local function row(self, name, entry)
  self.shown:row { entry = { [name] = entry } }
  self.out:flush()
  if self.out.closed then self:stop("cancelled", self.out.closed) end
end

-- Offsets tell what of a record's output was shown already.
local function show_part(self, index, stream, bytes, effect)
  local key = ("%d.%d.%d"):format(effect.n, index, stream)
  local offset = self.offsets[key] or 0
  self.offsets[key] = offset + #bytes
  row(self, name_of(self, index), { lines = bytes, stream = STREAMS[stream], offset = offset })
end

local function show_record(self, index, record, effect)
  local entry = {}
  for key, value in pairs(record) do entry[key] = value end
  entry.i, entry.name = nil, effect.args.step or effect.args.op
  for stream in ipairs(STREAMS) do
    self.offsets[("%d.%d.%d"):format(effect.n, index, stream)] = nil
  end
  row(self, name_of(self, index), entry)
end

local function show_outcome(self, indexes, status, reason)
  for _, index in ipairs(indexes) do
    row(self, name_of(self, index), {
      status = records.NUMBERS[status], name = self.task.name, return_data = reason or "",
    })
  end
end

local function show_said(self, index, said)
  row(self, name_of(self, index or 0), {
    status = 0, name = self.task.name, return_data = said, everywhere = index == nil or nil,
  })
end

-- ---- questions ----------------------------------------------------------------------------------

-- Whoever sits here is asked, one question at a time.
local function ask(self, args)
  while self.asking do self.answered:wait(1) end
  self.asking = true
  local _ <close> = setmetatable({}, { __close = function()
    self.asking = false
    self.answered:notify()
  end })
  self.out:complain(("exed-run: %s%s [yes or no, and a note] "):format(text.escape(args.message),
    args.by and (" (for %s)"):format(text.escape(args.by)) or ""))
  self.out:flush()
  local line, err = stdio.line(0, MAX_LINE, args.timeout)
  if not line and err.code == "timeout" then return { timeout = true } end
  local word, note = (line or "no standard input has ended"):match "^%s*(%S*)%s*(.-)%s*$"
  local yes = word:lower() == "yes" or word:lower() == "y"
  return { approved = yes, who = os.getenv "USER" or "local", note = note }
end

-- ---- the run ------------------------------------------------------------------------------------

-- Deferred functions have a limit of their own.
local function watch_cleanup(self)
  local limit = self.task.cleanup_limit or config.tasks.cleanup_limit
  timer.sleep(limit)
  self.here:stop(("took longer than %g s to put back what it had taken"):format(limit), true)
end

-- Effects raise from now on, what runs is ended, and deferred functions run.
function run:stop(code, reason)
  if self.stopped or not self.rt then return end
  self.stopped = reason
  self.rt:end_with(fail.new(code, reason))
  self.here:stop(reason)
  table.insert(self.watching, (assert(fiber.spawn("cleanup limit", watch_cleanup, self))))
end

local function watch_signals(self)
  if not signal.wait() then return end
  self.interrupted = true
  self.out:note "interrupted, ending what runs (once more to leave at once)"
  self:stop("cancelled", "interrupted")
  self.out:flush()
end

local function watch_time(self)
  local limit = self.limit
  timer.sleep(limit)
  self:stop("timeout", ("it took longer than its time limit, %g s"):format(limit))
end

local function new_backend(self, given)
  local show = {
    record = function(...) show_record(self, ...) end, say = function(...) show_said(self, ...) end,
    outcome = function(...) show_outcome(self, ...) end,
    question = function(args) return ask(self, args) end,
    print = function(said)
      self.out:put(said .. "\n")
      self.out:flush()
    end,
  }
  if not given.json then show.part = function(...) show_part(self, ...) end end
  return alone.new {
    inventory = self.inventory, hosts = self.hosts, jid = self.jid, show = show,
    executor = given.executor, secrets = self.secrets, dirs = self.task.file.dirs,
  }
end

-- The args as the task gets them; its secrets stay here.
local function check_args(self, values)
  local checked, err = registry.checker(self.task.args):check(values, "json")
  if not checked then options.refuse("%s", err.message) end
  local private = {}
  for _, one in ipairs(self.task.args) do
    if one.secret then
      private[one.name] = checked[one.name] and tostring(checked[one.name])
      checked[one.name] = checked[one.name] and "***"
    end
  end
  if self.task.checks then
    local ok, wrong = files.judge(self.task.file, checked)
    if not ok then options.refuse("%s", wrong) end
  end
  self.secrets = secrets.new(config.tasks.secrets, function() return private end)
  return checked
end

local function make_start(self, checked)
  local described, names = {}, {}
  for i, host in ipairs(self.hosts) do
    described[i], names[i] = inventory.describe(host), host.name
  end
  self.shown:job { job = {
    operate = "task", operate_args = { taskname = self.task.name }, targets = names, state = 1,
    taskid = self.jid,
  } }
  return {
    name = self.task.name, args = checked, hosts = described, jid = self.jid,
    who = os.getenv "USER" or "local", at = timer.wall(),
    seed = pins.seed(self.jid),
  }
end

local function why_failed(result, hosts)
  if result.ok then return "" end
  if result.error then return result.error.message end
  return ("not all of %d hosts went well"):format(hosts)
end

-- Runs it to its end; returns the exit code.
local function go(self, start, unknown)
  self.watching = {
    assert(fiber.spawn("signals", watch_signals, self)),
    assert(fiber.spawn("time limit", watch_time, self)),
  }
  local result = program.run(self.here.backend, start, self.task.file.sources, function(rt)
    self.rt = rt
  end)
  for _, one in ipairs(self.watching) do one:cancel() end
  for _, name in ipairs(unknown) do
    row(self, name, { status = -1, error = "no host of that name in the inventory" })
  end
  local good = result.ok and #unknown == 0
  self.shown:finish {
    state = good and 0 or 2, error = why_failed(result, #self.hosts), value = result.value,
  }
  self.out:flush()
  if self.interrupted then return INTERRUPTED end
  return good and not self.out.closed and 0 or 1
end

-- task: what its file declares, and file; given: the options; values: of its args.
return function(task, given, values)
  local found = targets.open(given)
  local hosts, unknown = targets.match(found, given[1])
  targets.limit(given, #hosts + #unknown)
  if task.max_hosts and #hosts > task.max_hosts then
    options.refuse("%d targets are more than max_hosts of task %s, %d", #hosts, task.name,
      task.max_hosts)
  end
  if given.detach then options.refuse "--detach wants a running exed" end
  local out = output.new()
  local self = setmetatable({
    task = task, inventory = found, hosts = hosts, out = out, jid = sys.uuid(), offsets = {},
    shown = given.json and follower.plain(out) or person.new(out, { quiet = given.quiet }),
    answered = fiber.event(),
    limit = given["time-limit"] or task.time_limit or config.tasks.time_limit,
  }, run)
  local checked = check_args(self, values)
  self.here = new_backend(self, given)
  return go(self, make_start(self, checked), unknown)
end
