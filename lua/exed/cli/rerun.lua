-- SPDX-License-Identifier: MIT
-- exed-run rerun: runs a job of a running exed once more.

local json = require "exed.json"
local options = require "exed.cli.options"
local plan_view = require "exed.cli.plan_view"
local remote = require "exed.cli.remote"
local targets = require "exed.cli.targets"

local parser = options.compile(remote.declare {
  usage = { "exed-run rerun [OPTION...] JID" },
  about = "Runs a job that has ended once more, as a new job, and prints its id: what it did, with "
    .. "the same arguments, on those of its hosts that failed, were unreachable or were skipped. "
    .. "`exed-run follow JID` shows it.",
  { "all", "a", help = "on all of its targets" },
  targets.options.max_hosts,
  { "dry-run", help = "touch nothing: print what would be done" },
  { "json", help = "the answer as a JSON object; of a dry run the steps" },
})

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 1 then options.refuse("one jid is wanted, %d words were given", #given) end
  local path = remote.job_path(given[1])
  local answer, err = remote.connect(given):ask("POST", path .. "/rerun", {
    only = given.all and "all" or "failed", max_hosts = given["max-hosts"],
    dry_run = given["dry-run"],
  })
  if not answer then return remote.fail("rerun", err) end
  if given["dry-run"] then return plan_view(answer.plan, given) end
  print(given.json and json.encode(answer) or answer.jid)
  return 0
end

return { summary = "run a job that has ended once more", usage = parser.help, run = run }
