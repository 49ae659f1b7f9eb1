-- SPDX-License-Identifier: MIT
-- One run of a task: loads its file in its environment, runs it, puts back what it deferred, and
-- says how it ended. The same in a task's process, in a test and in a dry run.

local each = require "exed.task.each"
local env = require "exed.task.env"
local definition = require "exed.task.definition"
local fail = require "exed.task.fail"
local hosts = require "exed.task.operations"
local http = require "exed.task.http"
local job = require "exed.task.job"
local json = require "exed.json"
local records = require "exed.task.records"
local runtime = require "exed.task.runtime"
require "exed.task.tally"

local program = {}

local MAX_VALUE <const> = 64 * 1024 -- bytes of what run returns, as JSON
local MAX_DEPTH <const> = 8 -- of tasks that call tasks

-- ---- loading ------------------------------------------------------------------------------------

-- A loader of task files and their lib modules. sources(name) -> text, path | nil; name is
-- "task.NAME" or "lib.NAME". Each file is loaded once.
local function new_loader(sources, modules, print_text)
  local loader = { loaded = {}, loading = {} }
  function loader.load(name)
    if loader.loaded[name] ~= nil then return loader.loaded[name] end
    if loader.loading[name] then error(("%s requires itself"):format(name), 0) end
    local text, path = sources(name)
    if not text then error(("%s is not there%s"):format(name, path and ": " .. path or ""), 0) end
    local chunk, wrong = load(text, "@" .. path, "t",
      env.new(modules, loader.load, print_text))
    if not chunk then error(wrong, 0) end
    loader.loading[name] = true
    local found = chunk()
    loader.loading[name] = nil
    if found == nil then found = true end
    loader.loaded[name] = found
    return found
  end
  return loader
end

-- Loads and checks a task's file. Returns the task, or nil and a text with file and line.
function program.load(sources, name, modules, print_text)
  local loader = new_loader(sources, modules, print_text)
  local ok, found = pcall(loader.load, "task." .. name)
  if not ok then return nil, tostring(found) end
  local _, path = sources("task." .. name)
  ok, found = pcall(definition.check, found)
  if not ok then return nil, ("%s: %s"):format(path, tostring(found)) end
  return found
end

-- The modules that a task may require. rt: its runtime, or nil when a file is only checked.
function program.modules(rt)
  local function none() fail.usage "nothing can be asked while a file is loaded" end
  rt = rt or { ask = none, note = none, context = none, backend = { event = none } }
  return { ["exed.each"] = each(rt), ["exed.http"] = http(rt), ["exed.json"] = json }
end

-- ---- running ------------------------------------------------------------------------------------

local function make_hosts(rt, given)
  local world, list = { rt = rt }, {}
  for i, one in ipairs(given) do list[i] = hosts.host(one, i - 1, world) end
  return hosts.set(list, world)
end

local node_meta = { __name = "node", __metatable = false }
function node_meta.__tostring() return "node" end
function node_meta.__index(self, key) return hosts.inside(self)[key] end
function node_meta.__newindex(_, key) fail.usage("job.node.%s cannot be set", tostring(key)) end

-- job.node takes execute only: of what [tasks] local_commands allows.
local function make_node(rt)
  local node = hosts.host({ name = "node" }, -1, { rt = rt })
  return hosts.sealed({ execute = function(_, ...) return node:execute(...) end, name = "node" },
    node_meta)
end

-- Raises what the task's own check has against its args.
local function judge(state, task, values, handles)
  local seen = {}
  for key, value in pairs(values) do seen[key] = value end
  for key in pairs(handles) do seen[key] = "***" end
  local wrong = definition.judge(task, seen)
  if wrong and state.depth > 1 then fail.usage("job:call: %s", wrong) end
  if wrong then error(fail.new("failed", wrong), 0) end
end

-- Runs a task as a part of this job: the first one, and those that it calls.
local function run_task(rt, state, name, set, values)
  rt:context().task = name
  local task, problem = program.load(state.sources, name, state.modules, rt.backend.print)
  if not task then error(fail.new("failed", problem), 0) end
  local object = job.new(rt, {
    jid = rt.jid, who = rt.who, dry_run = rt.dry_run, hosts = set, node = state.node, args = {},
  })
  local checked, handles = values, {}
  if state.depth > 1 then
    local ok, found, given = pcall(definition.check_call, task, values)
    if not ok then fail.usage("job:call %s: %s", name, found) end
    checked, handles = found, given
  end
  judge(state, task, checked, handles)
  local bound = definition.bind(task, checked, set, object)
  for key, value in pairs(bound) do object.args[key] = value end
  for key, handle in pairs(handles) do object.args[key] = handle end
  return task.run(object)
end

local function install_call(rt, state)
  function rt.call_task(name, path, list, values)
    if state.depth >= MAX_DEPTH then
      fail.usage("job:call: tasks call tasks more than %d deep", MAX_DEPTH)
    end
    state.depth = state.depth + 1
    local world = hosts.world(state.set)
    local set = hosts.set(table.move(list, 1, #list, 1, {}), world)
    local ok, value = rt:within(path, nil, run_task, rt, state, name, set, values)
    state.depth = state.depth - 1
    if not ok then error(value, 0) end
    return value
  end
end

-- The outcome of each host that has none yet: the status of its last operation, or SKIPPED.
local function remaining_outcomes(rt, set, why)
  local by = {}
  for _, host in ipairs(set) do
    if not rt.outcomes[host] then
      local status = rt.last[host] or "SKIPPED"
      local list = by[status] or {}
      by[status] = list
      list[#list + 1] = host
    end
  end
  for _, status in ipairs { "OK", "CHANGED", "SKIPPED", "FAILED", "UNREACHABLE" } do
    if by[status] then rt:outcome(by[status], status, status == "SKIPPED" and why or nil) end
  end
end

local function check_value(value)
  if value == nil then return nil end
  local ok, text = pcall(json.encode, value)
  if not ok then return nil, "what run returned cannot be kept: it is no plain data" end
  if #text > MAX_VALUE then
    return nil, ("what run returned cannot be kept: %d bytes of JSON, at most %d"):format(#text,
      MAX_VALUE)
  end
  return value
end

local function is_failure(rt, set)
  for _, host in ipairs(set) do
    local outcome = rt.outcomes[host]
    if outcome and records.is_failed(outcome.status) then return true end
  end
  return false
end

-- Runs a task to its end; called in a fiber of the backend. start: name, args (checked), hosts
-- (list of { name, address, groups, vars }), jid, who, dry_run, at, seed; sources as for load.
-- ready(rt), if given, is called before the task's file is loaded.
-- Returns { ok, error (code, message), value, outcomes: list of { host, status, text } }.
function program.run(backend, start, sources, ready)
  local rt = runtime.new(backend, start)
  if ready then ready(rt) end
  local set = make_hosts(rt, start.hosts)
  local state = {
    sources = sources, modules = program.modules(rt), node = make_node(rt), set = set, depth = 1,
  }
  install_call(rt, state)
  rt.contexts[coroutine.running()] = runtime.new_context ""
  local ok, value = rt:scoped(run_task, rt, state, start.name, set, start.args or {})
  local err = not ok and fail.from(value) or rt.over
  remaining_outcomes(rt, set, err and err.message)
  local kept, problem = check_value(ok and value or nil)
  if problem then err = err or fail.new("failed", problem) end
  local outcomes = {}
  for i, host in ipairs(set) do
    local outcome = rt.outcomes[host]
    outcomes[i] = { host = host.name, status = outcome.status, text = outcome.text }
  end
  return {
    ok = not err and not is_failure(rt, set), value = kept, outcomes = outcomes,
    error = err and { code = err.code, message = err.message } or nil,
  }
end

return program
