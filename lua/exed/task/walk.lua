-- SPDX-License-Identifier: MIT
-- What each.window and each.batch have in common: the options, the order, and when to stop.

local counts = require "exed.task.counts"
local fail = require "exed.task.fail"
local hosts = require "exed.task.hosts"
local order = require "exed.task.order"
local records = require "exed.task.records"
local schema = require "exed.schema"

local walk = {}
walk.__index = walk

local OPTIONS <const> = schema.compile({
  size = { "count", default = 1 }, max_failed = { "count", default = 0 },
  strict = { "boolean", default = false }, canary = { "count", default = 0 },
  settle = { "duration", default = 0 }, domain = { "string", min = 1 },
  per_domain = { "integer", min = 1 },
  order = { "choice", of = { "inventory", "reverse", "random" }, default = "inventory" },
  deadline = { "duration" }, check = { "boolean", default = true },
}, { lua = true })

local function read_options(given, what)
  local rest, gate = {}, nil
  if given ~= nil and type(given) ~= "table" then
    fail.usage("%s: options are a table, got %s", what, type(given))
  end
  for name, value in pairs(given or {}) do
    if name == "gate" then gate = value else rest[name] = value end
  end
  if gate ~= nil and type(gate) ~= "function" then
    fail.usage("%s: gate must be a function, got %s", what, type(gate))
  end
  local options = counts.options(OPTIONS, rest, what)
  if options.per_domain and not options.domain then
    fail.usage("%s: per_domain needs domain, the variable that names it", what)
  end
  return setmetatable({ gate = gate }, { __index = options })
end

-- A new walk over a set of hosts. what: "each.window" or "each.batch", for messages.
function walk.new(rt, set, given, what)
  local list = hosts.list(set, what)
  local options = read_options(given, what)
  local size = counts.up(options.size, #list)
  if size < 1 and #list > 0 then fail.usage("%s: size must be at least 1", what) end
  return setmetatable({
    rt = rt, what = what, options = options, given = list, world = hosts.world(set),
    list = order.of(rt, list, options), size = size, failed = 0, started = 0,
    max_failed = counts.down(options.max_failed, #list), began = rt.time,
    canary = math.min(counts.up(options.canary, #list), #list), gated = options.gate == nil,
    first = 1,
    has = {}, -- host -> its outcome in this walk
  }, walk)
end

-- Whether there are hosts that were not started yet: those of list from `first` on.
function walk:left() return self.first <= #self.list end

-- Why no more hosts may be started, or nil; once there is a reason it stays.
function walk:why_stop()
  if self.stopped then return self.stopped end
  local rt, deadline = self.rt, self.options.deadline
  if rt.over and rt:context().cleanup == 0 then
    self.stopped = rt.over.message
  elseif self.failed > 0 and self.started <= self.canary then
    self.stopped = ("%d of %d canary hosts failed"):format(self.failed, self.canary)
  elseif self.failed > self.max_failed then
    self.stopped = ("%d of %d hosts failed, more than max_failed, %d"):format(self.failed,
      #self.given, self.max_failed)
  elseif deadline and self:left() and rt.time - self.began >= deadline then
    self.stopped = ("the deadline of %s s has passed"):format(deadline)
  end
  return self.stopped
end

-- Whether the canary hosts have all been started; the others wait for their end and the gate.
function walk:past_canary() return self.started >= self.canary end

-- Asks the gate, once, when the canary is through. What it raises or refuses stops the walk.
function walk:pass_gate()
  if self.gated then return end
  self.gated = true
  local ok, answer = pcall(self.options.gate)
  if ok and answer ~= false then return end
  self.stopped = ok and "the gate said no" or "the gate failed: " .. tostring(answer)
end

-- Takes the next host whose domain has room, or nil. busy: domain -> hosts of it that run.
function walk:take(busy)
  local limit, var = self.options.per_domain, self.options.domain
  for i = self.first, #self.list do
    local host = self.list[i]
    if not limit or (busy[order.domain(host, var)] or 0) < limit then
      table.move(self.list, self.first, i - 1, self.first + 1)
      self.first = self.first + 1
      self.started = self.started + 1
      return host
    end
  end
  return nil
end

-- Sets what became of a host in this walk, and counts it.
function walk:ended(host, status, text)
  self.has[host] = { host = host, status = status, error = text,
    ok = records.is_ok(status), failed = records.is_failed(status) }
  if self.has[host].failed then self.failed = self.failed + 1 end
end

-- The hosts that were never started are skipped. Returns the outcomes in the order of the set.
function walk:finish()
  local reason = self.stopped or "not started"
  if self:left() then
    local never = table.move(self.list, self.first, #self.list, 1, {})
    self.rt:outcome(never, "SKIPPED", reason)
    for _, host in ipairs(never) do self:ended(host, "SKIPPED", reason) end
  end
  local outcomes = {}
  for i, host in ipairs(self.given) do outcomes[i] = self.has[host] end
  local results = records.results(outcomes, self.world)
  rawset(results, "stopped", self.stopped)
  return results
end

-- Raises when the walk stopped, unless it was asked with check = false.
function walk:check(results)
  self.rt:check_over(self.rt:context())
  if self.stopped and self.options.check then
    error(fail.new("stopped", ("%s stopped: %s"):format(self.what, self.stopped),
      { results = results, stopped = self.stopped }), 0)
  end
  return results
end

return walk
