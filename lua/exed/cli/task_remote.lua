-- SPDX-License-Identifier: MIT
-- Runs a task by an exed that answers: posts it, and shows it until it ends. Ctrl-C cancels the job
-- and waits for its end.

local fiber = require "exed.fiber"
local follower = require "exed.cli.follower"
local output = require "exed.cli.output"
local person = require "exed.cli.person"
local remote = require "exed.cli.remote"
local signal = require "exed.signal"

local INTERRUPTED <const> = 130

-- What a cancelled job's end may take is the task's cleanup_limit; a second Ctrl-C leaves at once.
local function cancel_on_signal(self, node, path)
  return assert(fiber.spawn("signals", function()
    if not signal.wait() then return end
    self.interrupted = true
    self.out:note "interrupted, cancelling the job (once more to leave at once)"
    self.out:flush()
    local _, err = node:ask("POST", path .. "/cancel", {})
    if err then
      self.out:note("cannot cancel: %s", err.message)
      self.out:flush()
    end
  end))
end

-- Who holds the hosts that the task wants, when that is why it is refused.
local function explain(err)
  local holders = type(err.answer) == "table" and err.answer.holders
  if type(holders) == "table" then
    local by, jids = {}, {}
    for host, list in pairs(holders) do
      for _, jid in ipairs(list) do
        if not by[jid] then jids[#jids + 1] = jid end
        by[jid] = by[jid] or {}
        table.insert(by[jid], host)
      end
    end
    table.sort(jids)
    for _, jid in ipairs(jids) do
      err.message = ("%s\n  %s: job %s"):format(err.message, remote.hosts(by[jid]),
        remote.line(jid))
    end
  end
  err.exit = err.away and 2 or 1
  return err
end

-- given: the options; values: of the task's args. Returns the exit code.
return function(node, task, given, values)
  local made, err = node:ask("POST", "/tasks", {
    targets = given[1], taskname = task.name, taskopts = next(values) and values or nil,
    executor = given.executor, timeout = given["time-limit"],
    max_hosts = given["max-hosts"],
  })
  if not made then error(explain(err), 0) end
  local path = remote.job_path(made.jid)
  if given.detach then
    print(made.jid)
    return 0
  end
  local out = output.new()
  if not given.quiet then out:note("job %s", made.jid) end
  local self = follower.new {
    jid = made.jid, path = path, node = node, out = out,
    shown = given.json and follower.plain(out) or person.new(out, { quiet = given.quiet }),
  }
  local _ <close> = setmetatable({ fiber = cancel_on_signal(self, node, path) }, {
    __close = function(one) one.fiber:cancel() end,
  })
  local ok
  ok, err = self:follow(given.patience)
  if self.interrupted then return INTERRUPTED end
  if not ok then return remote.fail("task", err) end
  if out.closed then return 1 end
  return self.ending.state == 0 and 0 or 1
end
