-- SPDX-License-Identifier: MIT
-- host:tally: how often something was noted of a host lately, in this job and in others before it.
-- It is the one thing that tasks remember from job to job: counts of times, nothing else.

local fail = require "exed.task.fail"
local hosts = require "exed.task.hosts"
local counts = require "exed.task.counts"
local schema = require "exed.schema"

local LONGEST <const> = 30 * 86400 -- seconds; what is older is forgotten

local OPTIONS <const> = schema.compile({
  within = { "duration", min = 1, max = LONGEST, default = LONGEST },
  add = { "boolean", default = false }, clear = { "boolean", default = false },
}, { lua = true })

-- How often `name` was added for this host within the last `within`. add: once more, now; clear:
-- forgets all of them. At most the newest 1,000 are kept, for 30 days.
function hosts.host_methods.tally(host, name, given)
  if not hosts.is_host(host) then fail.usage "call it as host:tally(...)" end
  if type(name) ~= "string" or #name > 64 or not name:find "^[%w_.-]+$" then
    fail.usage "host:tally wants a name: up to 64 letters, digits, _ . -"
  end
  local options = counts.options(OPTIONS, given, "host:tally")
  if options.add and options.clear then fail.usage "host:tally: either add or clear" end
  local change = options.add and "add" or options.clear and "clear" or "look"
  return hosts.runtime(host):ask("tally", {
    host = host.index, name = name, change = change, within = options.within,
  }).count
end

return hosts
