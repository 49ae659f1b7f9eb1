-- SPDX-License-Identifier: MIT
-- Jobs: from a request to a job in the store, and what else may be asked of one. The job exists
-- when submit answers with its jid, and then it ends, whatever happens to this node.

local json = require "exed.json"
local metrics = require "exed.metrics"
local pins = require "exed.tasks.pins"
local plan = require "exed.plan"
local secrets = require "exed.tasks.secrets"
local preview = require "exed.preview"
local sys = require "exed.sys"
local timer = require "exed.timer"

local jobs = {}

-- Hosts in a slice: enough to be worth a node's while, few enough that idle nodes find some.
local SLICE_HOSTS <const> = 256
-- A sync request of at most so many targets may use the places that are kept for such.
local URGENT_HOSTS <const> = 10

local NO_MATCH <const> = '{"status":-1,"error":"no host of that name in the inventory"}'

local LOCKS <const> = { ping = "none", facter = "none", execute = "shared" }
-- What changes a host by its nature keeps its lease whatever the request says.
local LEAST <const> = { service = "exclusive", deploy = "exclusive" }
local STRENGTH <const> = { none = 0, shared = 1, exclusive = 2 }

local function bad(message) return nil, { code = "bad_request", message = message } end

-- Flat list of from, to. A window that the request gives is shared out over the slices, so there
-- are no more slices than places in it.
local function make_slices(count, window)
  local n = (count + SLICE_HOSTS - 1) // SLICE_HOSTS
  if window then n = math.min(n, window) end
  -- No slice may be larger than what one call of the store walks.
  n = math.max(n, (count + 1999) // 2000)
  local slices, from = {}, 0
  for k = 1, n do
    local to = count * k // n
    slices[#slices + 1], slices[#slices + 2] = from, to
    from = to
  end
  return slices
end

-- Names of the targets, those of the inventory first, how many these are, and their hosts.
local function resolve(node, request)
  local inventory, resolved = node.holder.inventory, request.resolved
  local found, unknown
  if resolved and resolved.inventory == inventory and resolved.targets == request.targets then
    found, unknown = resolved.found, resolved.unknown
  else
    found, unknown = inventory:resolve(request.targets)
  end
  if not found then return bad(unknown.message) end
  if #found == 0 then
    return nil, { code = "not_found", message = "no hosts match that target" }
  end
  local names = {}
  for i = 1, #found do names[i] = found[i].name end
  if #unknown > 0 then table.move(unknown, 1, #unknown, #found + 1, names) end
  local most, whose = node.config.api.max_hosts, "max_hosts of [api]"
  if request.max_hosts and request.max_hosts < most then
    most, whose = request.max_hosts, "max_hosts of the request"
  end
  if #names > most then
    return bad(("%d targets are more than %s, %d"):format(#names, whose, most))
  end
  return names, #found, found
end

jobs.resolve = resolve

-- The lease that the operation takes on its hosts.
local function lock_of(request)
  local lock = request.lock or LOCKS[request.operation] or "exclusive"
  if not STRENGTH[lock] then
    return bad('lock should be "exclusive", "shared" or "none"')
  end
  if STRENGTH[lock] < (STRENGTH[LEAST[request.operation]] or 0) then
    return bad(("lock of %s may not be less than %s"):format(request.operation,
      LEAST[request.operation]))
  end
  return lock
end

-- Whether the operation may start only once on a host, whatever happens.
local function is_fenced(request, made, lock)
  if made.files then return true end
  if made.process or made.fence == false then return false end
  if made.repeatable or not made.command then return false end
  return made.fence or request.fence or lock == "exclusive"
end

-- A raw host takes the bytes as given, so nothing can be wrapped around them there.
local function check_fence(node, targets, known)
  for i = 1, known do
    local host = node.holder.inventory.by_name[targets[i]]
    if host and host.shell == "raw" then
      return bad(("%s has exed_shell = raw: no fence can be put around a command there"):format(
        host.name))
    end
  end
  return true
end

-- What is kept of the request for the nodes that run it.
local function kept(request, count)
  return {
    operation = request.operation, args = request.args, executor = request.executor,
    timeout = request.timeout, window = request.window, lines = request.lines,
    fence = request.fenced or nil,
    urgent = not request.listed and count <= URGENT_HOSTS or nil,
  }
end

local function job_fields(request, count)
  return {
    operation = request.operation,
    args = json.encode(request.args),
    executor = request.executor or "",
    request = json.encode(kept(request, count)),
    startat = math.floor(timer.wall()),
    who = request.who or "",
    parent = request.parent or "",
  }
end

-- Words of the store's errors in the API's terms.
local function explain(err, jid)
  if err.code == "conflict" then
    return {
      code = "conflict", message = "operate conflict, job already running on some host(s)",
      holders = json.decode(err.message),
    }
  end
  if err.unsure then err.jid = jid end
  return err
end

local function count_submitted(request, no_match, state)
  metrics.count("exed_jobs_submitted_total", 'operation="' .. request.operation .. '"')
  if no_match > 0 then metrics.count("exed_records_total", 'status="no_match"', no_match) end
  if state == "ended" then metrics.count("exed_jobs_ended_total", 'result="failure"') end
end

-- The job in the store; found: targets, known, lock, fields, slices, and perhaps its jid.
local function create(node, request, found)
  local jid = found.jid or sys.uuid()
  local answer, err = node.store:create({
    jid = jid, fields = found.fields, targets = found.targets, known = found.known,
    no_match = NO_MATCH, slices = found.slices, lock = found.lock,
    listed = request.listed ~= false, priority = request.priority,
    idem_key = request.idem_key, idem_hash = request.idem_hash,
    max_jobs = node.config.store.max_jobs,
    max_memory = math.floor(node.config.store.memory * 0.8),
  }, node)
  if not answer then return nil, explain(err, jid) end
  if answer.how == "CREATED" then
    count_submitted(request, #found.targets - found.known, answer.state)
  end
  node.runner:kick()
  return { jid = answer.jid, replay = answer.how == "REPLAY" }
end

-- What is known of a request before there is a job: targets, known, hosts, lock, made (the
-- executor's plan); or nil, err. Sets request.count and request.fenced.
local function prepare(node, request)
  local targets, known, hosts = resolve(node, request)
  if not targets then return nil, known end
  request.count = #targets
  local made, lock, err
  made, err = plan.ask(node, request, hosts)
  if not made then return nil, err end
  lock, err = lock_of(request)
  if not lock then return nil, err end
  request.fenced = is_fenced(request, made, lock)
  if request.fenced then
    local ok
    ok, err = check_fence(node, targets, known)
    if not ok then return nil, err end
  end
  return { targets = targets, known = known, hosts = hosts, lock = lock, made = made }
end

-- Makes a job of a request: operation, targets (text or list), args, and optionally executor, lock,
-- priority, timeout (seconds), window, lines, max_hosts, listed (false: a sync GET), parent (the
-- jid of the job that is run again), who, idem_key, idem_hash, resolved (what exed.api.checks found
-- the targets to be). Returns { jid, replay }, or nil, err.
function jobs.submit(node, request)
  if not node.incarnation then
    return nil, { code = "away", message = "the node has not reached its store yet" }
  end
  local found, err = prepare(node, request)
  if not found then return nil, err end
  found.fields = job_fields(request, #found.targets)
  found.slices = make_slices(found.known, request.window)
  return create(node, request, found)
end

-- Hosts at once: of the request, of the executor, else of the settings.
local function window_of(node, request, made)
  if request.window or made.window then return request.window or made.window end
  local forks = made.ansible and node.config.runner.concurrency or 0
  return forks > 0 and forks or node.config.ssh.window
end

-- What that job would do: a plan of exed.preview, or nil, err. Touches nothing.
function jobs.preview(node, request)
  local found, err = prepare(node, request)
  if not found then return nil, err end
  local window = window_of(node, request, found.made)
  return preview.new {
    operation = request.operation, args = request.args, made = found.made, hosts = found.hosts,
    unknown = table.move(found.targets, found.known + 1, #found.targets, 1, {}), window = window,
    head = {
      operation = request.operation, executor = request.executor or node.config.runner.executor,
      command = preview.command(found.made), lock = found.lock,
      fence = request.fenced or false, window = window,
    },
  }
end

-- A job of a task: request.task is of exed.tasks.registry, request.values its args, and the rest as
-- above. What the task needs is kept with the job.
function jobs.submit_task(node, request)
  if not node.incarnation then
    return nil, { code = "away", message = "the node has not reached its store yet" }
  end
  local task = request.task
  local targets, known = resolve(node, request)
  if not targets then return nil, known end
  if task.max_hosts and #targets > task.max_hosts then
    return bad(("%d targets are more than max_hosts of task %s, %d"):format(#targets, task.name,
      task.max_hosts))
  end
  local lock = request.lock or task.lock
  if STRENGTH[lock] < STRENGTH[task.lock] then
    return bad(("lock of task %s may not be less than %s"):format(task.name, task.lock))
  end
  local pinned, err = pins.make(node, task, targets, known)
  if not pinned then return nil, err end
  local jid = sys.uuid()
  local sealed
  sealed, err = secrets.seal(node, jid, task.checker, request.values)
  if sealed == nil then return nil, err end
  local fields = {
    operation = "task", executor = request.executor or "", startat = math.floor(timer.wall()),
    who = request.who or "", parent = request.parent or "", pins = pinned, task = task.name,
    args = json.encode {
      taskname = task.name, tasktype = task.type,
      taskopts = secrets.hide(task.checker, request.given),
    },
    secrets = sealed or "",
    request = json.encode {
      operation = "task", task = task.name, args = secrets.hide(task.checker, request.values),
      executor = request.executor, time_limit = request.timeout or task.time_limit,
      cleanup_limit = task.cleanup_limit,
    },
  }
  return create(node, request, {
    jid = jid, targets = targets, known = known, lock = lock, fields = fields,
    slices = known > 0 and { 0, known } or {},
  })
end

-- Approves, pauses or resumes. verb: approve (answer: { approved, who, note }, to question n),
-- pause, resume. Returns { jid, state }, or nil, err: code "gone", "ended", or "stopped" when it
-- cannot be asked now.
function jobs.tell(node, jid, verb, answer, n)
  local done, err = node.store:call("ask_task", jid, verb, answer and json.encode(answer) or "",
    n or 0)
  if not done then return nil, err end
  return { jid = jid, state = 1 }
end

-- Stops a job: what runs is killed, what has not started is skipped. Returns { jid, state }.
function jobs.cancel(node, jid, reason)
  local slices, err, some = node.store:cancel(node, jid, reason or "cancelled")
  for _, slice in ipairs(slices or some or {}) do node.runner:start(slice) end
  if not slices then
    node.runner:doubt()
    return nil, err
  end
  return { jid = jid, state = 1 }
end

function jobs.remove(node, jid) return node.store:remove(jid) end

return jobs
