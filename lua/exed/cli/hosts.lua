-- SPDX-License-Identifier: MIT
-- exed-run hosts: which hosts a pattern names.

local inventory = require "exed.inventory"
local json = require "exed.json"
local options = require "exed.cli.options"
local ranges = require "exed.cli.ranges"
local targets = require "exed.cli.targets"

local parser = options.compile {
  usage = { "exed-run hosts [OPTION...] [PATTERN]" },
  about = "Prints the hosts that a pattern names, one a line; without a pattern all of them.",
  targets.options.inventory,
  { "json", help = "one JSON object per line: name, address, port, user, groups, variables (but "
    .. "no secret)" },
  { "ranges", "r", help = "all on one line, as ranges: web[01-12,15]" },
  after = targets.pattern_help,
}

local function run(argv)
  local given = parser:parse(argv)
  if given[2] then options.refuse("one pattern is wanted, %d words were given", #given) end
  if given.json and given.ranges then options.refuse("--json and --ranges exclude each other") end
  local found = targets.open(given)
  local hosts, unknown = targets.match(found, given[1] or "all")
  local names = {}
  for i, host in ipairs(hosts) do names[i] = host.name end
  if given.ranges then
    print(ranges.fold(names))
  elseif given.json then
    for _, host in ipairs(hosts) do print(json.encode(inventory.describe(host))) end
  else
    print(table.concat(names, "\n"))
  end
  for _, name in ipairs(unknown) do
    io.stderr:write("exed-run: no host is called ", name, "\n")
  end
  return #unknown > 0 and 1 or 0
end

return { summary = "which hosts a pattern names", usage = parser.help, run = run }
