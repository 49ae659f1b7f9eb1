-- SPDX-License-Identifier: MIT
-- exed.test: rehearses a task on a fake fleet with a virtual clock. The runtime, the journal and
-- the
-- replay are the real ones; only hosts, time and the store are made up.
--
--   local fleet = test.fleet { "web[01:20]", vars = { rack = "a" } }
--   fleet:answer { op = "service", host = "web06", status = "FAILED", error = "unit failed" }
--   local result = fleet:run("NAME", { args = {}, targets = "web*" })

return require "exed.task.rehearsal"
