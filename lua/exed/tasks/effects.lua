-- SPDX-License-Identifier: MIT
-- Does the effects of one task on this node: each kind of effect is a function here that waits, and
-- returns the answer. An effect that may have been started by a node that was lost is settled, as
-- PROTOCOL says for operations: by its bits in the store and its fence on the host.

local fiber = require "exed.fiber"
local http = require "exed.http"
local json = require "exed.json"
local outputs = require "exed.tasks.outputs"
local plan = require "exed.plan"
local proc = require "exed.proc"
local request = require "exed.tasks.request"
local targets = require "exed.targets"
local timer = require "exed.timer"

local effects = {}
effects.__index = effects

local MARKS <const> = 2000 -- hosts whose bits are asked for in one call
local APPROVAL_POLL <const> = 1 -- seconds; a lost wake-up is covered so

-- For a slice of a task's job. names: of its targets, by index + 1.
function effects.new(node, slice, names, executor)
  return setmetatable({
    node = node, slice = slice, names = names, executor = executor, running = {},
    cancelled = "cancelled",
  }, effects)
end

local function failed(code, message) return { error = { code = code, message = message } } end

-- ---- operations ---------------------------------------------------------------------------------

-- The bits of these targets for an effect: a text with a character each, or nil, err.
local function read_marks(self, n, indexes)
  local pages, marks = {}, {}
  for i, index in ipairs(indexes) do
    local page = index // MARKS
    if not pages[page] then
      local to = math.min((page + 1) * MARKS, self.slice.to)
      local answer, err = self.node.store:insist("marks", self.slice.jid, self.slice.k, n,
        page * MARKS, to)
      if not answer then return nil, err end
      pages[page] = answer[3]
    end
    local at = index - page * MARKS + 1
    marks[i] = pages[page]:sub(at, at)
  end
  return table.concat(marks)
end

-- The plan for one effect: as for an operation of its own, but under its number.
local function make_plan(self, effect)
  local node, args = self.node, effect.args
  local asked = request.of(args, self.executor)
  local made, err = plan.ask(node, asked)
  if not made then return nil, err.message end
  local repeatable = args.repeatable or made.repeatable or false
  asked.fence = not repeatable
  local filled = plan.fill(node, {
    jid = self.slice.jid, request = asked, slices = 1, total = #args.hosts,
  }, { k = 0 }, made)
  filled.op = ("%s.%d"):format(self.slice.jid, effect.n)
  request.apply(filled, args)
  return filled, repeatable
end

local function run_op(self, effect, settle)
  local indexes, marks = effect.args.hosts, nil
  local filled, repeatable = make_plan(self, effect)
  if not filled then return failed("failed", repeatable) end
  local names = {}
  for i, index in ipairs(indexes) do names[i] = self.names[index + 1] end
  if settle then
    local err
    marks, err = read_marks(self, effect.n, indexes)
    if not marks then return nil, err end
  end
  local work = {
    jid = self.slice.jid, k = self.slice.k, epoch = self.slice.epoch, effect = effect.n,
    names = names, indexes = indexes, marks = marks, stop = effect.stop,
  }
  effect.work = work
  local ok, err = targets.run(self.node, work, filled, repeatable)
  if not ok then return nil, err end
  local list
  list, err = outputs.records(self.node, self.slice.jid, effect.n, indexes)
  if not list then return nil, err end
  return { records = list }
end

-- ---- the node itself ----------------------------------------------------------------------------

local function is_allowed(self, path)
  for _, allowed in ipairs(self.node.config.tasks.local_commands or {}) do
    if allowed == path then return true end
  end
  return false
end

local function node_record(found)
  local good = found.code == 0 and not found.timed_out
  return {
    i = -1, status = good and 5 or 3, rtc = found.timed_out and 124 or found.code
      or 128 + (found.signal or 0),
    stdout = found.stdout, stderr = found.stderr, signal = found.signal,
    timed_out = found.timed_out or nil,
    error = not good and (found.timed_out and "over its time limit"
      or "exit code " .. tostring(found.code)) or nil,
  }
end

-- job.node:execute: a list of words, the first of them a path that [tasks] local_commands names.
local function run_here(self, effect, settle)
  local args = effect.args
  local argv = args.fields.argv
  if not argv then
    return failed("failed", "job.node:execute wants a list of words, no text for a shell")
  end
  if not is_allowed(self, argv[1]) then
    return failed("failed", ("job.node:execute: %s is not in [tasks] local_commands")
      :format(argv[1]))
  end
  if settle and not args.repeatable then
    local record = { i = -1, status = 3, unknown = true, error = "node lost while running" }
    return { records = { record } }
  end
  local found, err = proc.run {
    argv = argv, env = args.fields.env, stdin = args.fields.stdin, cwd = args.fields.cwd,
    timeout = args.timeout or 60, max = 65536, op = ("%s.%d"):format(self.slice.jid, effect.n),
  }
  if not found then return { records = { { i = -1, status = 3, error = err.message } } } end
  return { records = { node_record(found) } }
end

local kinds = {}

function kinds.op(self, effect, settle)
  if effect.args.hosts[1] == -1 then return run_here(self, effect, settle) end
  return run_op(self, effect, settle)
end

-- ---- waiting, asking ----------------------------------------------------------------------------

-- A sleep goes on with what was left of it, and never lasts longer than it was meant to.
function kinds.sleep(_, effect, settle)
  local left = effect.args.seconds
  if settle and effect.at then
    left = math.min(left, math.max(0, effect.at + left - timer.wall()))
  end
  effect.event:wait(left)
  return {}
end

function kinds.http(self, effect, settle)
  local args = effect.args
  if settle and not args.repeatable then
    return { failed = { code = "unknown", message = "the node was lost while it asked" } }
  end
  local headers = {}
  for name, value in pairs(args.headers or {}) do headers[name] = value end
  if args.method ~= "GET" and args.method ~= "HEAD" then
    headers["Idempotency-Key"] = headers["Idempotency-Key"]
      or ("%s.%d"):format(self.slice.jid, effect.n)
  end
  local answer, err = http.request(args.method, args.url, {
    headers = headers, body = args.body, timeout = args.timeout,
  })
  if not answer then return { failed = { code = err.code, message = err.message } } end
  return { response = {
    status = answer.status, headers = answer.headers, body = answer.body, json = answer.json,
    truncated = answer.truncated,
  } }
end

local function set_phase(self, phase, waiting)
  return self.node.store:insist("phase", self.slice.jid, self.slice.k, self.slice.epoch, phase,
    waiting or "")
end

function kinds.approval(self, effect)
  local args = effect.args
  local deadline = (effect.at or timer.wall()) + args.timeout
  local ok, err = set_phase(self, "waiting", ('{"n":%d,"message":%s,"by":%s,"until":%d}'):format(
    effect.n, json.encode(args.message), args.by and json.encode(args.by) or "null",
    math.floor(deadline)))
  if not ok then return nil, err end
  local answer
  while not answer and not effect.stop do
    local job = self.node.store:get(self.slice.jid)
    local said = job and job["approval:" .. effect.n]
    if said then
      answer = json.decode(said)
    elseif timer.wall() >= deadline then
      answer = { timeout = true }
    else
      effect.event:wait(math.max(0.01, math.min(APPROVAL_POLL, deadline - timer.wall())))
    end
  end
  ok, err = set_phase(self, "running")
  if not ok then return nil, err end
  return answer or {}
end

-- ---- all of them --------------------------------------------------------------------------------

-- Starts an effect; done(answer) is called once, unless the node ends or does not own the task any
-- more: then lost(err).
function effects:execute(effect, settle, done, lost)
  local kind = kinds[effect.kind]
  if not kind then return done(failed("failed", "there is no effect " .. tostring(effect.kind))) end
  effect.event = fiber.event()
  self.running[effect] = true
  fiber.spawn(("task %s #%d"):format(self.slice.jid, effect.n), function()
    local ok, answer, err = xpcall(kind, debug.traceback, self, effect, settle)
    self.running[effect] = nil
    if not ok then
      done(failed("failed", "inside exed: " .. tostring(answer)))
    elseif answer then
      done(answer)
    else
      lost(err)
    end
  end)
end

-- Ends one that runs: what runs on hosts is killed, and its answer says so.
function effects:cancel(effect)
  effect.stop = effect.stop or self.cancelled
  if effect.work then
    effect.work.stop = effect.stop
    if effect.work.run then effect.work.run:cancel(effect.stop) end
  end
  if effect.event then effect.event:notify() end
end

-- Somebody answered, paused or resumed.
function effects:told()
  for effect in pairs(self.running) do
    if effect.kind == "approval" then effect.event:notify() end
  end
end

-- Leaves everything to the next owner: what runs on hosts runs on.
function effects:abandon()
  for effect in pairs(self.running) do
    if effect.work and effect.work.run then effect.work.run:abandon() end
    effect.stop = effect.stop or "abandoned"
    effect.event:notify()
  end
end

-- Whether nothing runs any more.
function effects:is_idle() return next(self.running) == nil end

function effects:output(n, index, stream)
  if index < 0 then return "" end
  return outputs.text(self.node, self.slice.jid, n, index, stream)
end

return effects
