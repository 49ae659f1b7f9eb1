-- SPDX-License-Identifier: MIT
-- exed-run service: a service of hosts brought into a state.

local operation = require "exed.cli.operation"
local options = require "exed.cli.options"
local report = require "exed.cli.report"
local service = require "exed.ops.service"
local words = require "exed.words"

local decl = operation.with {}
decl.usage = { "exed-run service [OPTION...] PATTERN NAME STATE" }
decl.about = [[
Brings the service NAME into STATE on the hosts that PATTERN names, by their own service manager.
STATE is started, stopped, restarted or reloaded. "changed" says that it had to be done, "ok" that
it was so already.]]
decl.after = operation.after
local parser = options.compile(decl)

local STATES <const> = { "started", "stopped", "restarted", "reloaded" }
local SHORT <const> = { start = "started", stop = "stopped", restart = "restarted",
  reload = "reloaded" }

local function state_of(word)
  word = SHORT[word] or word
  for _, known in ipairs(STATES) do
    if word == known then return word end
  end
  options.refuse("STATE is one of %s, not %s%s", table.concat(STATES, ", "), words.show(word),
    words.hint(word, STATES))
end

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 3 then
    options.refuse("a pattern, a service and a state are wanted, %d words were given", #given)
  end
  return operation.run(given, given[1], {
    operation = "service", args = service.args(given[2], state_of(given[3])),
    say = function(record) return report.word(record.status) end,
  })
end

return { summary = "start, stop, restart or reload a service", usage = parser.help, run = run }
