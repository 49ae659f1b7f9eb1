-- SPDX-License-Identifier: MIT
-- exed-run fetch: a small file of hosts, shown.

local operation = require "exed.cli.operation"
local options = require "exed.cli.options"

local decl = operation.with {
  { "no-prefix", "N", help = "no host before the lines, and their bytes as they are" },
  { "max", type = "size", default = 64 << 10, shown = "64k", value = "SIZE",
    help = "longer files fail; at most 64k" },
}
decl.usage = { "exed-run fetch [OPTION...] PATTERN FILE" }
decl.about = [[
Shows FILE, an absolute path, of the hosts that PATTERN names; with --fold those that have the same
together. For small files; what is longer than --max fails.]]
decl.after = operation.after
local parser = options.compile(decl)

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 2 then
    options.refuse("a pattern and a file are wanted, %d words were given", #given)
  end
  if given["no-prefix"] and (given.fold or given.json) then
    options.refuse "--no-prefix is for output as it comes, not for --fold or --json"
  end
  return operation.run(given, given[1], {
    operation = "fetch", args = { src = given[2], max = given.max }, plain = true,
  })
end

return { summary = "show a small file of hosts", usage = parser.help, run = run }
