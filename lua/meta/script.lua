---@meta exed.hosts
-- SPDX-License-Identifier: MIT
-- Types of exed.hosts and exed.job, which scripts of exed-run have in place of a job.

---@class exed.Hosts
---@field all exed.Set the whole inventory
local hosts = {}

-- Those that an inventory pattern names.
---@param pattern string|string[]
---@return exed.Set
function hosts.match(pattern) end

return hosts
