-- SPDX-License-Identifier: MIT
-- What scripts of exed-run stand on: the API of tasks, with effects that are done at once by this
-- process and are not journaled. Loaded by exed.hosts, exed.each and exed.job.

local config = require "exed.config"
local each = require "exed.task.each"
local fail = require "exed.task.fail"
local fanout = require "exed.fanout"
local fiber = require "exed.fiber"
local hosts = require "exed.task.operations"
local inventory = require "exed.inventory"
local job = require "exed.task.job"
local json = require "exed.json"
local plan = require "exed.plan"
local plugins = require "exed.plugins"
local reach = require "exed.reach"
local request = require "exed.tasks.request"
local runtime = require "exed.task.runtime"
local signal = require "exed.signal"
local sys = require "exed.sys"
local timer = require "exed.timer"

local script = {}

local INTERRUPTED <const> = 130
local EVENT_WAIT <const> = 3600 -- seconds; longer waits are asked for again

-- ---- hosts --------------------------------------------------------------------------------------

local world = { list = {} }

inventory.use_json(json)
local found, problem = inventory.load(config.inventory.path)
if not found then error(problem, 0) end
for i, one in ipairs(found.hosts) do
  world.list[i] = hosts.host(inventory.describe(one), i - 1, world)
end

local all = hosts.set(table.move(world.list, 1, #world.list, 1, {}), world)

-- ---- operations ---------------------------------------------------------------------------------

local executors = {}
local fake_node = { config = config, plugins = { executors = executors } }

local function load_executor(name)
  if executors[name] then return end
  for _, dir in ipairs { config.runner.modules, sys.share() } do
    local path = ("%s/executors/%s.lua"):format(dir, name)
    if sys.stat(path) then
      local executor, wrong = plugins.load(path, "executor", name)
      if not executor then error(fail.new("failed", wrong), 0) end
      executors[name] = executor
      return
    end
  end
end

local running = {} -- fan-outs
local jid = sys.uuid()

local function make_plan(effect)
  local asked = request.of(effect.args, nil)
  load_executor(config.runner.executor)
  local made, err = plan.ask(fake_node, asked)
  if not made then error(fail.new("failed", err.message), 0) end
  local filled = plan.fill(fake_node, {
    jid = jid, request = asked, slices = 1, total = #effect.args.hosts,
  }, { k = 0 }, made)
  filled.op = ("%s.%d"):format(jid, effect.n)
  request.apply(filled, effect.args)
  return filled, made.repeatable
end

-- Takes the entries of a fan-out: output that came in parts, and records.
local function collect(run, outputs, records)
  while true do
    local list = run:next()
    if not list then return end
    for _, entry in ipairs(list) do
      if entry.kind == "part" then
        local key = ("%d.%d"):format(entry.index, entry.stream)
        outputs[key] = outputs[key] or {}
        table.insert(outputs[key], entry.data)
      else
        local record = json.decode(entry.data) or {}
        record.i, record.status = entry.index, entry.status
        for stream, name in ipairs { "stdout", "stderr" } do
          local parts = outputs[("%d.%d"):format(entry.index, stream)]
          if parts then record[name] = table.concat(parts) end
        end
        records[#records + 1] = record
      end
    end
  end
end

-- Hosts by transport, and the records of those that are not tried.
local function sort(indexes, repeatable)
  local groups, records = {}, {}
  for _, index in ipairs(indexes) do
    local host = found.hosts[index + 1]
    local record = reach.untried(host, repeatable)
    if record then
      record.i = index
      records[#records + 1] = record
    else
      local kind = host.connection == "local" and "local" or "ssh"
      groups[kind] = groups[kind] or { hosts = {}, indexes = {} }
      table.insert(groups[kind].hosts, reach.handle(found, host))
      table.insert(groups[kind].indexes, index)
    end
  end
  return groups, records
end

local function run_op(effect)
  local filled, repeatable = make_plan(effect)
  local groups, records = sort(effect.args.hosts, repeatable)
  for _, kind in ipairs { "local", "ssh" } do
    local group = groups[kind]
    if group then
      filled.transport = kind
      local run, err = fanout.start(filled, group.hosts, group.indexes)
      if not run then error(fail.new("failed", err.message), 0) end
      running[run] = true
      collect(run, {}, records)
      running[run] = nil
    end
  end
  return { records = records }
end

-- ---- the backend --------------------------------------------------------------------------------

local waiting = {} -- events of sleeps

local kinds = { op = run_op }

function kinds.sleep(effect)
  local event = fiber.event()
  waiting[event] = true
  event:wait(effect.args.seconds)
  waiting[event] = nil
  return {}
end

local backend = {
  spawn = function(fn) fiber.spawn("script", fn) end,
  print = print, output = function() return "" end,
}

function backend.ask(effect)
  local kind = kinds[effect.kind]
  if not kind then error(fail.new("failed", effect.kind .. " needs a task, run by a server"), 0) end
  local answer = kind(effect)
  answer.at = timer.wall()
  return answer
end

function backend.note(effect)
  if effect.kind == "say" then
    local host = effect.args.host and world.list[effect.args.host + 1].name .. ": " or ""
    io.stderr:write(host, effect.args.text, "\n")
  end
end

function backend.event()
  local event = fiber.event()
  return {
    wait = function() repeat local ok = event:wait(EVENT_WAIT) until ok end,
    notify = function() event:notify() end,
  }
end

-- ---- the runtime --------------------------------------------------------------------------------

local rt = runtime.new(backend, {
  at = timer.wall(), jid = jid, seed = math.floor(timer.wall() * 1e6),
})
world.rt = rt
local main = runtime.new_context ""
main.scope = {}
rt.contexts[coroutine.running()] = main

script.modules = {
  hosts = { all = all, match = function(text) return all:match(text) end },
  each = each(rt),
  job = job.new(rt, { jid = jid, hosts = all, args = {} }),
}

-- Ctrl-C: what runs is killed, effects raise from then on, and deferred functions run.
fiber.spawn("signals", function()
  local name = signal.wait()
  if not name then return end
  script.interrupted = true
  io.stderr:write "exed-run: interrupted, ending what runs (once more to leave at once)\n"
  rt:end_with(fail.new("cancelled", "interrupted"))
  for run in pairs(running) do run:cancel "interrupted" end
  for event in pairs(waiting) do event:notify() end
end)

-- Runs what the script has deferred; returns an exit code, 0 when there is nothing to say.
function script.finish()
  local code = script.interrupted and INTERRUPTED or 0
  for _, text in ipairs(rt:run_deferred(main.scope)) do
    io.stderr:write("exed-run: putting back failed: ", text, "\n")
    code = code == 0 and 1 or code
  end
  return code
end

return script
