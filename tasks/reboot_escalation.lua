-- SPDX-License-Identifier: MIT
-- Reboots hosts that hang: one method after another, until one of them works. A method is a file of
-- lib/reboot/; it worked when the host goes down, and comes up again with another boot.
local each = require "exed.each"
local methods = {
  command = require "lib.reboot.command",
  ssh = require "lib.reboot.ssh",
}

-- Its boot, when it can tell. A host that is there and does not let us in may well be healthy.
local function look(job, host)
  local found = host:wait_up { step = "look", timeout = "10s", check = false }
  if found.status == "UNREACHABLE" and not job.args.refused then
    host:fail("it is there, and does not let us in, so it is not reset: " .. found.error)
  end
  return found.boot
end

-- Resets that helped nobody, of jobs before this one, too.
local function check_resets(job, host)
  local args = job.args
  local resets = host:tally("resets", { within = args.within })
  if resets >= args.max_resets then
    host:fail(("handed off to people: reset %d times within %g h, and none helped"):format(resets,
      args.within / 3600))
  end
end

local function reboot(job, host)
  local args = job.args
  check_resets(job, host)
  local boot = look(job, host)
  local function goes_down(reset)
    host:tally("resets", { add = true })
    -- A reset may end the connection that it came by: whether the host goes down tells.
    local ok, err = job:try(reset)
    if not ok then host:say("the reset said: %s", err.message) end
    return host:wait_down { step = "down", timeout = args.down, check = false }.ok
  end
  for _, name in ipairs(args.methods) do
    if methods[name](host, goes_down, job) then
      local found = host:wait_up { step = "up", timeout = args.up, check = false }
      if found.ok and not (boot and found.boot == boot) then
        host:tally("resets", { clear = true })
        return host:record("CHANGED", "rebooted by " .. name)
      end
    end
  end
  host:fail("no method worked: " .. table.concat(args.methods, ", "))
end

return {
  summary = "reboot hosts by the first method that works",
  args = {
    methods = { "list", of = { "choice", of = { "ssh", "command" } }, min = 1,
      default = { "ssh", "command" }, help = "tried in this order" },
    down = { "duration", default = "60s", min = 1, help = "a host must be down within" },
    up = { "duration", default = "300s", min = 1, help = "and up again within" },
    command = { "path", help = "command of the node for the method command" },
    refused = { "boolean", default = false,
      help = "reset hosts, too, that are there and refuse the login" },
    max_resets = { "integer", default = 6, min = 1, max = 1000,
      help = "hands off a host that was reset so often in vain" },
    within = { "duration", default = "24h", min = 60, max = "30d", help = "in that time" },
    size = { "count", default = 1, help = "hosts at once" },
    max_failed = { "count", default = 0, help = "stop when more hosts than this have failed" },
  },
  run = function(job)
    local args = job.args
    each.window(job.hosts, { size = args.size, max_failed = args.max_failed }, function(host)
      reboot(job, host)
    end)
  end,
}
