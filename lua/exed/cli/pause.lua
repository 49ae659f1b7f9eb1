-- SPDX-License-Identifier: MIT
-- exed-run pause: holds jobs of a running exed.

local options = require "exed.cli.options"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run pause [OPTION...] JID..." },
  about = "Starts no more hosts of jobs, and of tasks no more steps; what runs, runs to its end, "
    .. "and what a task took away is put back. `exed-run resume` lets them go on.",
  { "json", help = "one JSON object per job" },
})

local function run(argv)
  local given = parser:parse(argv)
  return remote.tell(given, { verb = "pause", said = "is paused", json = given.json })
end

return { summary = "hold jobs of a running exed", usage = parser.help, run = run }
