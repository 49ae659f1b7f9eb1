-- SPDX-License-Identifier: MIT
-- Turns a request into what fanout.start takes: asks the executor for its plan and fills in what it
-- leaves open. Used when a request comes in (so that a bad one is answered 400) and for each slice.

local check = require "exed.plan.check"
local files = require "exed.plan.files"
local settings = require "exed.plan.settings"

local plan = {}

local STATUS <const> = { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 }

local function bad(format, ...)
  return nil, { code = "bad_request", message = format:format(...) }
end

-- { [0] = "CHANGED", default = "FAILED" } -> the same with numbers
local function to_verdict(names)
  local verdict = {}
  for code, name in pairs(names) do
    if not STATUS[name] then
      error("the plan's verdict has an unknown status: " .. tostring(name))
    end
    verdict[code] = STATUS[name]
  end
  return verdict
end

-- How many of the hosts are in each group.
local function count_groups(hosts)
  local groups = {}
  for _, host in ipairs(hosts or {}) do
    for name in pairs(host.groups or {}) do groups[name] = (groups[name] or 0) + 1 end
  end
  return groups
end

-- What the executor's operation answers, or nil, err. Raises what it raised.
local function call(node, name, operation, request, hosts, values)
  local called, made, err = settings.call(node.config, operation, {
    op = request.operation, args = request.args, timeout = request.timeout,
    window = request.window, hosts = {
      count = request.count, groups = not check.SHIPPED[name] and count_groups(hosts) or nil,
    },
  }, values)
  if not called then error(("executor %s: %s"):format(name, made), 0) end
  if not made and type(err) == "table" then return nil, err end
  if not made then return bad("%s", err or "the executor refused") end
  return made
end

-- That there is no such executor: nil, err. The request is not to blame for what could not be read.
local function missing(node, name)
  local unread = node.plugins.unread and node.plugins.unread.executor
  if not unread then return bad("there is no executor %q", name) end
  local message = ("executor %s is not known yet: %s"):format(name, unread)
  return nil, { code = "unavailable", message = message }
end

-- How the operation is done, or nil, err. node gives plugins and config; request has operation,
-- args, executor, timeout, count; hosts: of the inventory, for which it is asked.
function plan.ask(node, request, hosts)
  local name = request.executor or node.config.runner.executor
  local executor = node.plugins.executors[name]
  if not executor then return missing(node, name) end
  local operation = executor.operations[request.operation]
  if not operation then return bad("executor %s cannot do %s", name, request.operation) end
  local values, why = settings.of(node.config, name, executor)
  if not values then
    return nil, { code = "unavailable", message = ("executor %s: %s"):format(name, why) }
  end
  local made, err = call(node, name, operation, request, hosts, values)
  if not made then return nil, err end
  local checked, problem = check.plan(made, name)
  if checked and checked.files then
    local there
    there, problem = files.find(checked.files, name, node.config)
    checked = there and checked
  end
  if not checked then return bad("the plan of executor %s: %s", name, problem) end
  made = checked
  local whole = made.ansible or made.process
  if whole and not node.runner then
    return bad("executor %s works in a running exed only: ask its API", name)
  end
  if whole and request.fence then
    return bad("executor %s has no fence: what a lost node had started is unknown", name)
  end
  return made
end

-- Seconds that the operation may take; 0: no limit.
local function time_limit(config, request, made)
  if request.timeout then return request.timeout end
  return made.timeout or config.ssh.command_timeout[request.operation] or 0
end

-- fanout.start's plan for a slice. job: jid and request; made: from plan.ask.
function plan.fill(node, job, slice, made)
  local request, ssh = job.request, node.config.ssh
  local facts = made.stdout == "facts"
  local quiet_record = made.quiet_record or facts
  local window = request.window or made.window
  local whole = made.ansible or made.process
  return {
    -- What Ansible has left on hosts is looked for over SSH.
    transport = made.ansible and "ssh" or made.process and "local" or made.transport,
    ansible = made.ansible,
    process = made.process and {
      hosts_file = made.process.hosts_file, judges = made.process.judges, calm = false,
    },
    command = made.command,
    places = made.places,
    per_host = made.per_host,
    no_command = made.no_command,
    stdin = made.stdin,
    env = made.env,
    cwd = made.cwd,
    verdict = to_verdict(made.verdict),
    timeout = time_limit(node.config, request, made),
    connect_timeout = ssh.connect_timeout,
    group = job.jid,
    group_window = window == nil and ssh.window or nil,
    window = window and plan.share(window, job.slices, slice.k),
    urgent = request.urgent,
    -- A job with more hosts than connections would only push out what others can use again.
    keep = ssh.keep > 0 and job.total <= ssh.max_connections,
    op = job.jid .. ".0",
    try = 1,
    -- What is told at the end only has no lines on the way.
    lines = request.lines and not quiet_record,
    quiet_record = quiet_record,
    tell_code = made.tell_code,
    facts = facts,
    json = made.stdout == "json",
    output_cap = made.output_cap or node.config.store.output_cap,
    -- What is sent has its place in the fence.
    fence = not whole and made.fence ~= false and (request.fence or made.source ~= nil
      or made.files ~= nil) or nil,
    settle = node.config.runner.settle_timeout,
    quiet = made.quiet,
    tidy = made.tidy,
    sync = made.sync,
    fence_dir = ssh.fence_dir,
    fence_ttl = node.config.store.ttl,
  }
end

-- The slice's part of a window that holds over all of a job's slices.
function plan.share(window, slices, k)
  return window // slices + (k < window % slices and 1 or 0)
end

return plan
