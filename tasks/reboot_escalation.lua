-- SPDX-License-Identifier: MIT
-- Reboots hosts that hang: one method after another, until one of them works. A method is a file of
-- lib/reboot/; it worked when the host goes down, and comes up again.
local each = require "exed.each"
local methods = {
  command = require "lib.reboot.command",
  ssh = require "lib.reboot.ssh",
}

local function reboot(job, host)
  local args = job.args
  -- The boot that is seen here is known after a crash, too. A host that hangs says nothing.
  job:try(function() host:wait_up { step = "look", timeout = "10s" } end)
  local function goes_down(reset)
    -- A reset may end the connection that it came by: whether the host goes down tells.
    local ok, err = job:try(reset)
    if not ok then host:say("the reset said: %s", err.message) end
    return host:wait_down { step = "down", timeout = args.down, check = false }.ok
  end
  for _, name in ipairs(args.methods) do
    local went = methods[name](host, goes_down, job)
    if went and host:wait_up { step = "up", timeout = args.up, check = false }.ok then
      return host:record("CHANGED", "rebooted by " .. name)
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
