-- SPDX-License-Identifier: MIT
-- Reboots a host by a command of the node, such as a script for ipmitool or a power switch. It gets
-- the host's name and address. [tasks] local_commands must name it.

return function(host, try, job)
  local command = job.args.command
  if not command then
    host:say "no command is given for the method command"
    return false
  end
  return try(function()
    job.node:execute({ command, host.name, host.address },
      { step = "command", timeout = "1m" })
  end)
end
