-- SPDX-License-Identifier: MIT
-- exed-run follow: a job of a running exed, as it runs, until it ends.

local follower = require "exed.cli.follower"
local options = require "exed.cli.options"
local output = require "exed.cli.output"
local person = require "exed.cli.person"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run follow [OPTION...] JID" },
  about = "Shows what the hosts of a job say, as they say it, until the job has ended. A "
    .. "connection that is lost is made again, and nothing is missed or shown twice. The exit code "
    .. "is 0 when the job is done, 1 when it ended as Failure.",
  { "from", type = "integer", min = 0, value = "N", default = 0, shown = "the beginning",
    help = "go on after the row with this id; what an interrupted follow says" },
  { "json", help = "the rows as exed sends them, one JSON object a line, each with its id" },
  remote.patience,
})

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 1 then options.refuse("one jid is wanted, %d words were given", #given) end
  local out, path = output.new(), remote.job_path(given[1])
  local node = remote.connect(given)
  local shown = given.json and follower.plain(out) or person.new(out)
  if given.from > 0 and not given.json then
    -- What goes on in the middle does not begin with the job.
    local job = node:ask("GET", path)
    if job then shown:job { job = job } end
  end
  local self = follower.new {
    jid = given[1], path = path, node = node, from = given.from, out = out, shown = shown,
  }
  local ok, err = self:follow(given.patience)
  if not ok then return remote.fail("follow", err) end
  if out.closed then return 1 end
  return self.ending.state == 0 and 0 or 1
end

return { summary = "watch a job of a running exed until it ends", usage = parser.help, run = run }
