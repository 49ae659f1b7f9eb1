-- SPDX-License-Identifier: MIT
-- exed-run facter: what hosts are: kernel, addresses, memory and so on.

local json = require "exed.json"
local operation = require "exed.cli.operation"
local options = require "exed.cli.options"
local words = require "exed.words"

local decl = operation.with {}
decl.usage = { "exed-run facter [OPTION...] PATTERN [FACT...]" }
decl.about = [[
Asks the hosts that PATTERN names for their facts, and prints them, one a line; with names of facts
only these.]]
decl.after = operation.after
local parser = options.compile(decl)

local function show(value)
  if type(value) == "string" then return value end
  return json.encode(value)
end

-- One "name: value" a line, sorted by name; of the wanted ones only, when there are any.
local function say_facts(record, wanted)
  local facts, lines = record.facts or {}, {}
  for _, name in ipairs(#wanted > 0 and wanted or words.keys(facts)) do
    if facts[name] ~= nil then lines[#lines + 1] = ("%s: %s"):format(name, show(facts[name])) end
  end
  return table.concat(lines, "\n")
end

local function run(argv)
  local given = parser:parse(argv)
  if not given[1] then options.refuse "a pattern is wanted" end
  local wanted = table.move(given, 2, #given, 1, {})
  return operation.run(given, given[1], {
    operation = "facter", args = {},
    say = function(record) return say_facts(record, wanted) end,
  })
end

return { summary = "what hosts are: kernel, addresses, memory", usage = parser.help, run = run }
