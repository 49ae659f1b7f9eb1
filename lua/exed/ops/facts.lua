-- SPDX-License-Identifier: MIT
-- The facter operation, which the executors ssh and local share: facts.sh tells what a host is, and
-- runtime/facts.c makes typed facts of what it printed.
--
--   facts.plan("ssh") -> plan

local sys = require "exed.sys"

local facts = {}

-- Comments stay here: a host's sh reads a script byte by byte.
local function read_script()
  local path = sys.share() .. "/lua/exed/ops/facts.sh"
  local file, problem = io.open(path, "rb")
  if not file then error("the script that gathers facts: " .. problem) end
  local lines = {}
  for line in file:lines() do
    if not line:find "^%s*#" and line ~= "" then lines[#lines + 1] = line end
  end
  file:close()
  return table.concat(lines, "\n")
end

local SCRIPT <const> = read_script()

-- How it is done over that transport. It changes nothing, so it may be done again.
function facts.plan(transport)
  return {
    transport = transport,
    command = SCRIPT,
    verdict = { [0] = "OK", default = "FAILED" },
    stdout = "facts",
    repeatable = true,
  }
end

return facts
