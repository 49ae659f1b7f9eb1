-- SPDX-License-Identifier: MIT
-- Tests of exed.cli.options.

local t = require "support"
local options = require "exed.cli.options"

local parser = options.compile {
  usage = { "prog [OPTION...] WORD" },
  about = "Does one thing.",
  { "window", "f", type = "integer", min = 1, value = "N", help = "hosts at once", default = 500 },
  { "timeout", "t", type = "duration", value = "TIME", help = "limit of each host" },
  { "inventory", "i", type = "string", value = "FILE", many = true, help = "which hosts" },
  { "sort", type = "choice", of = { "name", "time" }, value = "HOW", help = "order" },
  { "max-stdin", type = "size", value = "SIZE", help = "how much is read" },
  { "json", help = "one object per line" },
  { "fold", "b", help = "identical outputs once" },
  { "quiet", "q", help = "less" },
}

local command = options.compile { usage = { "x" }, operands = 1, { "fold", "b", help = "x" } }

local function parse(...) return parser:parse { ... } end

t.test("long and short options with values, in every form", function()
  for _, argv in ipairs {
    { "--window=7" }, { "--window", "7" }, { "-f7" }, { "-f", "7" }, { "-bf7" }, { "-bf", "7" },
  } do
    t.eq(parser:parse(argv).window, 7, table.concat(argv, " "))
  end
  t.eq(parse().window, 500)
  t.eq(parse("--timeout=2m").timeout, 120)
  t.eq(parse("--max-stdin", "8m")["max-stdin"], 8 << 20)
  t.eq(parse("-i", "a", "--inventory=b").inventory, { "a", "b" })
  t.eq(parse("--inventory=a=b").inventory, { "a=b" })
  t.eq(parse("--inventory=").inventory, { "" })
end)

t.test("flags of one letter stand together, words stand anywhere", function()
  local given = parse("one", "-bq", "two", "--json")
  t.eq({ given.fold, given.quiet, given.json, given[1], given[2] },
    { true, true, true, "one", "two" })
  t.eq(parse().json, nil)
end)

t.test("what follows -- is no option", function()
  local given = parse("-b", "--", "-q", "--", "--json")
  t.eq({ given.fold, given.quiet, given[1], given[2], given[3] },
    { true, nil, "-q", "--", "--json" })
  t.eq(parse("-")[1], "-")
end)

t.test("a command keeps its own options", function()
  for _, argv in ipairs {
    { "-b", "web", "ls", "-l", "-b" }, { "web", "-b", "ls", "-l", "-b" },
    { "web", "-b", "--", "ls", "-l", "-b" }, { "-b", "web", "--", "ls", "-l", "-b" },
  } do
    local given = command:parse(argv)
    t.eq(table.concat(given, " "), "web ls -l -b")
    t.eq(given.fold, true)
  end
  t.eq(command:parse({ "web", "ls", "-b" }).fold, nil)
  t.eq(table.concat(command:parse { "web", "ls", "--", "-b" }, " "), "web ls -- -b")
end)

t.test("errors name the option and what would be right", function()
  local function refuses(argv, part)
    local err = t.raises(function() parser:parse(argv) end, part)
    t.eq(err.code, "usage")
  end
  refuses({ "--windw", "3" }, "there is no option '--windw', did you mean 'window'?")
  refuses({ "-x" }, "there is no option '-x'")
  refuses({ "-bx" }, "there is no option '-x'")
  refuses({ "--window" }, "option --window wants a value: N")
  refuses({ "-f" }, "option -f wants a value: N")
  refuses({ "--window", "x" }, "option --window takes a whole number, not 'x'")
  refuses({ "-f0" }, "option -f takes at least 1, not '0'")
  refuses({ "--timeout", "soon" }, "option --timeout takes a duration such as 90")
  refuses({ "--sort", "nam" }, "option --sort takes one of name, time, not 'nam', did you mean")
  refuses({ "--max-stdin=many" }, "option --max-stdin takes a size such as")
  refuses({ "--json=1" }, "option --json takes no value")
  refuses({ "--\27[31m" }, "there is no option '--?[31m'")
end)

t.test("help has every option, its default and what it takes", function()
  for _, part in ipairs {
    "usage: prog [OPTION...] WORD\n", "Does one thing.", "  -f, --window N ", "(500)",
    "      --json ", "  -h, --help ",
  } do
    t.has(parser.help, part)
  end
  for line in parser.help:gmatch "[^\n]+" do assert(#line <= 80, line) end
end)

t.done()
