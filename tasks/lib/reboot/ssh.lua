-- SPDX-License-Identifier: MIT
-- Reboots a host by what runs on it: first what ends services in order, then what does not wait for
-- them. What was written is on its disk before.

local COMMANDS <const> = { "reboot", "shutdown -r now" }
-- What tells that the command has begun is written last, so it is what may be missing after the
-- reboot: a second for that, which a disk that hangs cannot make longer.
local SYNC <const> = "sync </dev/null >/dev/null 2>&1 & sleep 1; "

-- try(fn) -> whether the host went down after fn.
return function(host, try, job)
  job:try(function() host:execute("sync", { step = "ssh-sync", timeout = "30s" }) end)
  for _, command in ipairs(COMMANDS) do
    local step = "ssh-" .. command:match "^%w+"
    if try(function()
      host:execute(SYNC .. command, { step = step, timeout = "30s" })
    end) then return true end
  end
  return false
end
