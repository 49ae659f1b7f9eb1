-- SPDX-License-Identifier: MIT
-- exed-run cancel: stops jobs of a running exed.

local json = require "exed.json"
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
  if not given[1] then options.refuse "which job? `exed-run jobs` lists them" end
  local paths = {}
  for i, jid in ipairs(given) do paths[i] = remote.job_path(jid) end
  local node, code = remote.connect(given), 0
  for i, path in ipairs(paths) do
    local answer, err = node:ask("POST", path .. "/cancel", {})
    if err and err.away then return remote.fail("cancel", err) end
    if given.json then
      print(json.encode(answer or { jid = given[i], message = err.message }))
    elseif answer then
      print(given[i] .. " is being cancelled")
    else
      remote.fail("cancel", err)
    end
    if not answer then code = 1 end
  end
  return code
end

return { summary = "stop jobs of a running exed", usage = parser.help, run = run }
