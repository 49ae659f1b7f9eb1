-- SPDX-License-Identifier: MIT
-- exed-run approve: answers the question that a task of a running exed waits with.

local options = require "exed.cli.options"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run approve [OPTION...] JID" },
  about = "Answers the question that a task waits with; `exed-run jobs JID` shows it.",
  { "no", help = "no: the task ends, or does what it does then" },
  { "note", "n", type = "string", max = 4000, value = "TEXT",
    help = "what the task is told besides" },
  { "json", help = "a JSON object" },
})

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 1 then options.refuse("one jid is wanted, %d words were given", #given) end
  return remote.tell(given, {
    verb = "approve", body = { approve = not given.no, note = given.note },
    said = given.no and "was told no" or "was told yes", json = given.json,
  })
end

return { summary = "answer the question that a task waits with", usage = parser.help, run = run }
