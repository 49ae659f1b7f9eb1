-- SPDX-License-Identifier: MIT
-- What scripts of exed-run stand on: the API of tasks, with effects that are done at once by this
-- process and are not journaled. Loaded by exed.hosts, exed.each and exed.job.

local alone = require "exed.alone"
local config = require "exed.config"
local each = require "exed.task.each"
local fail = require "exed.task.fail"
local fiber = require "exed.fiber"
local hosts = require "exed.task.operations"
local inventory = require "exed.inventory"
local job = require "exed.task.job"
local json = require "exed.json"
local runtime = require "exed.task.runtime"
local signal = require "exed.signal"
local sys = require "exed.sys"
local timer = require "exed.timer"
require "exed.task.tally"

local script = {}

local INTERRUPTED <const> = 130

-- ---- hosts --------------------------------------------------------------------------------------

local world = { list = {} }

inventory.use_json(json)
local found, problem = inventory.load(config.inventory.path)
if not found then error(problem, 0) end
for i, one in ipairs(found.hosts) do
  world.list[i] = hosts.host(inventory.describe(one), i - 1, world)
end

local all = hosts.set(table.move(world.list, 1, #world.list, 1, {}), world)

-- ---- the runtime --------------------------------------------------------------------------------

local jid = sys.uuid()
local here = alone.new {
  inventory = found, hosts = found.hosts, jid = jid, show = {
    say = function(index, text)
      local host = index and world.list[index + 1].name .. ": " or ""
      io.stderr:write(host, text, "\n")
    end,
  },
}

local rt = runtime.new(here.backend, {
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
local watching = assert(fiber.spawn("signals", function()
  local name = signal.wait()
  if not name then return end
  script.interrupted = true
  io.stderr:write "exed-run: interrupted, ending what runs (once more to leave at once)\n"
  rt:end_with(fail.new("cancelled", "interrupted"))
  here:stop "interrupted"
end))

-- Runs what the script has deferred; returns an exit code, 0 when there is nothing to say.
function script.finish()
  local code = script.interrupted and INTERRUPTED or 0
  for _, text in ipairs(rt:run_deferred(main.scope)) do
    io.stderr:write("exed-run: putting back failed: ", text, "\n")
    code = code == 0 and 1 or code
  end
  watching:cancel()
  return code
end

return script
