-- SPDX-License-Identifier: MIT
-- exed.test: rehearses a task on a fake fleet with a virtual clock; looks at plans of executors.
-- The runtime, the journal and the replay are the real ones; only hosts, time and the store are
-- made up.
--
--   local fleet = test.fleet { "web[01:20]", vars = { rack = "a" } }
--   fleet:answer { op = "service", host = "web06", status = "FAILED", error = "unit failed" }
--   local result = fleet:run("NAME", { args = {}, targets = "web*" })
--
--   local plan, why = test.plan("NAME", { op = "execute", args = { command = "uptime" } })
--
-- test.plan asks the executor of that name, whose file is beside the test, in [runner] modules or
-- shipped: see exed.plan.rehearse.
--
-- A test file may have cases: test.case("what must hold", function() ... end). One that fails does
-- not keep the others from being run; without cases the file is one.

local rehearsal = require "exed.task.rehearsal"

local test = { fleet = rehearsal.fleet, dir = nil } -- dir: of the test file that runs

-- The plan that an executor makes of a request, as data.
function test.plan(name, request)
  local config, sys = require "exed.config", require "exed.sys"
  local dirs = { config.runner.modules .. "/executors", sys.share() .. "/executors" }
  if test.dir then table.insert(dirs, 1, test.dir) end
  for _, dir in ipairs(dirs) do
    local path = ("%s/%s.lua"):format(dir, name)
    if sys.stat(path) then
      return require "exed.plan.rehearse".plan(path, name, request)
    end
  end
  error(("there is no executor %s.lua in %s"):format(name, table.concat(dirs, ", ")), 2)
end

-- exed-run --test counts; a script that is run by itself stops at the first case that fails.
test.runner = function(_, fn) fn() end

function test.case(name, fn) test.runner(name, fn) end

return test
