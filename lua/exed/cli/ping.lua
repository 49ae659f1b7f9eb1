-- SPDX-License-Identifier: MIT
-- exed-run ping: a real login on hosts, nothing run.

local operation = require "exed.cli.operation"
local options = require "exed.cli.options"

local decl = operation.with {}
decl.usage = { "exed-run ping [OPTION...] PATTERN" }
decl.about = "Logs in to the hosts that PATTERN names, and runs nothing there."
decl.after = operation.after
local parser = options.compile(decl)

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 1 then options.refuse("one pattern is wanted, %d words were given", #given) end
  return operation.run(given, given[1], {
    operation = "ping", args = {}, say = function() return "ok" end,
  })
end

return { summary = "log in to hosts, nothing more", usage = parser.help, run = run }
