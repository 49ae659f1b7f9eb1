-- SPDX-License-Identifier: MIT
-- exed-run cancel: stops jobs of a running exed.

local options = require "exed.cli.options"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run cancel [OPTION...] JID..." },
  about = "Stops jobs: what runs on hosts is killed and looked for, what has not started is "
    .. "skipped. `exed-run follow JID` shows the end.",
  { "json", help = "one JSON object per job" },
})

local function run(argv)
  local given = parser:parse(argv)
  return remote.tell(given, { verb = "cancel", said = "is being cancelled", json = given.json })
end

return { summary = "stop jobs of a running exed", usage = parser.help, run = run }
