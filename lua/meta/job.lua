---@meta exed.job
-- SPDX-License-Identifier: MIT
-- The functions of a job, for scripts of exed-run.

---@type exed.Job
local job = {}

return job
