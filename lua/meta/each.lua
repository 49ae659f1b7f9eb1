---@meta exed.each
-- SPDX-License-Identifier: MIT
-- Types of exed.each: many hosts, a few at a time.

---@class exed.EachOptions
---@field size? exed.Count 1: hosts at once
---@field max_failed? exed.Count 0: no host is started once more than this have failed
---@field strict? boolean never more than max_failed + 1 fail
---@field canary? exed.Count 0: so many go first and must all succeed
---@field gate? fun(): any asked once after the canary; false or an error stops
---@field settle? exed.Duration 0: a host keeps its place so long after it is done
---@field domain? string inventory variable that names a failure domain
---@field per_domain? integer hosts of one domain at once
---@field order? "inventory"|"reverse"|"random"
---@field deadline? exed.Duration no host is started so long after the call
---@field check? boolean false: outcomes with `stopped` instead of raising

---@class exed.Each
local each = {}

-- Runs fn(host) for each, at most `size` at once; a host that ends lets the next start.
---@param hosts exed.Set|exed.Host
---@param options exed.EachOptions
---@param fn fun(host: exed.Host)
---@return exed.Outcomes
function each.window(hosts, options, fn) end

-- for batch in each.batch(hosts, options) do: sets of `size`, one after another. A batch drops its
-- hosts that failed, and counts them.
---@param hosts exed.Set|exed.Host
---@param options exed.EachOptions
---@return fun(): exed.Set?
function each.batch(hosts, options) end

return each
