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
only these. os.name is one inside of another.]]
decl.after = operation.after
local parser = options.compile(decl)

local function show(value)
  if type(value) == "string" then return value end
  return json.encode(value)
end

-- "os.name" is the name in os.
local function find(facts, path)
  for name in path:gmatch "[^.]+" do
    if type(facts) ~= "table" then return nil end
    facts = facts[name]
  end
  return facts
end

-- One "name: value" a line, sorted by name; of the wanted ones only, when there are any. Those that
-- are there are noted in `seen`.
local function say_facts(record, wanted, seen)
  local facts, lines = record.facts or {}, {}
  for _, name in ipairs(#wanted > 0 and wanted or words.keys(facts)) do
    local value = find(facts, name)
    if value ~= nil then
      lines[#lines + 1], seen[name] = ("%s: %s"):format(name, show(value)), true
    end
  end
  for known in pairs(facts) do seen[known] = true end
  return table.concat(lines, "\n")
end

-- What a host does not know is not there; what none of them knows may be mistyped.
local function say_missing(wanted, seen)
  if not next(seen) then return end
  for _, name in ipairs(wanted) do
    if not seen[name] then
      local hint = words.hint(name, words.keys(seen))
      io.stderr:write("exed-run: no host has a fact ", words.show(name), hint, "\n")
    end
  end
end

local function run(argv)
  local given = parser:parse(argv)
  if not given[1] then options.refuse "a pattern is wanted" end
  local wanted = table.move(given, 2, #given, 1, {})
  local seen = {}
  local code = operation.run(given, given[1], {
    operation = "facter", args = {},
    say = function(record) return say_facts(record, wanted, seen) end,
  })
  say_missing(wanted, seen)
  return code
end

return { summary = "what hosts are: kernel, addresses, memory", usage = parser.help, run = run }
