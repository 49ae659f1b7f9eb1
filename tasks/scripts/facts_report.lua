-- SPDX-License-Identifier: MIT
-- exed-run tasks/scripts/facts_report.lua 'web*': what hosts are, as a table.
local hosts = require "exed.hosts"

local facts = hosts.match(arg[1] or "all"):facter { window = 200, timeout = "30s", check = false }
local row = "%-12s %-31s %-18s %4s %7s"

print(row:format("HOST", "SYSTEM", "KERNEL", "CPUS", "GIB"))
for _, record in ipairs(facts) do
  local f = record.facts
  print(f and row:format(record.host, f.os and f.os.description or f.kernel, f.kernel_release,
      f.processors and f.processors.count or "?", ("%.1f"):format((f.memory or 0) / 2^30))
    or ("%-12s %s: %s"):format(record.host, record.status, record.error))
end
print(("%d hosts, %d answered, %d did not"):format(#facts, #facts.ok, #facts.failed))
