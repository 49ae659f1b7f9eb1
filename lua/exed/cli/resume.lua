-- SPDX-License-Identifier: MIT
-- exed-run resume: lets paused jobs of a running exed go on.

local options = require "exed.cli.options"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run resume [OPTION...] JID..." },
  about = "Lets paused jobs go on. A task goes on with the source that it began with, whatever was "
    .. "saved since; with --current with the one that is in force now, which is refused when it "
    .. "does not fit what the task has done (exed-run --replay says why).",
  { "current", help = "of a task: go on with the source that is in force now" },
  { "json", help = "one JSON object per job" },
})

local function run(argv)
  local given = parser:parse(argv)
  return remote.tell(given, {
    verb = "resume", body = given.current and { source = "current" }, said = "goes on",
    json = given.json,
  })
end

return { summary = "let paused jobs go on", usage = parser.help, run = run }
