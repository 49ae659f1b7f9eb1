-- SPDX-License-Identifier: MIT
-- exed.test: rehearses a task on a fake fleet with a virtual clock. The runtime, the journal and
-- the replay are the real ones; only hosts, time and the store are made up.
--
--   local fleet = test.fleet { "web[01:20]", vars = { rack = "a" } }
--   fleet:answer { op = "service", host = "web06", status = "FAILED", error = "unit failed" }
--   local result = fleet:run("NAME", { args = {}, targets = "web*" })
--
-- A test file may have cases: test.case("what must hold", function() ... end). One that fails does
-- not keep the others from being run; without cases the file is one.

local rehearsal = require "exed.task.rehearsal"

local test = { fleet = rehearsal.fleet }

-- exed-run --test counts; a script that is run by itself stops at the first case that fails.
test.runner = function(_, fn) fn() end

function test.case(name, fn) test.runner(name, fn) end

return test
