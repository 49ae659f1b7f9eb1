-- SPDX-License-Identifier: MIT
-- The options and the help that exed-run makes of a task's declared args.

local args = require "exed.cli.task_args"
local json = require "exed.json"
local options = require "exed.cli.options"
local schema = require "exed.schema"
local t = require "support"

-- A parser for a declaration; parse(argv) gives the values by the names of the args.
local function parser_of(decl)
  local described = schema.describe(schema.compile(decl, { lua = true }))
  local list = args.options(described)
  local compiled = { usage = { "x" } }
  table.move(list, 1, #list, 1, compiled)
  local parser = options.compile(compiled)
  return function(...) return args.values(list, parser:parse { ... }) end, parser.help
end

local function refuses(parse, part, ...)
  local argv = table.pack(...)
  local err = t.raises(function() parse(table.unpack(argv, 1, argv.n)) end, part)
  t.eq(err.code, "usage")
end

t.test("each type is read as the API reads it", function()
  local parse = parser_of {
    s = { "string" }, p = { "path" }, u = { "url" }, c = { "command" }, i = { "integer" },
    n = { "number" }, b = { "boolean" }, k = { "count" }, d = { "duration" },
    o = { "choice", of = { "a", "b" } }, l = { "list", of = "integer" }, j = { "object" },
    h = { "host" }, hs = { "hosts" },
  }
  t.eq(parse("--s", "x y", "--p", "/etc", "--u", "http://x/", "--c", "ls | wc", "--i=3",
    "--n", "1.5", "--b", "--k", "10%", "--d", "5m", "--o", "b", "--l", "1,2", "--j", '{"x":[1]}',
    "--h", "web01", "--hs", "web*,db1"), {
    s = "x y", p = "/etc", u = "http://x/", c = "ls | wc", i = 3, n = 1.5, b = true, k = "10%",
    d = 300, o = "b", l = json.array { 1, 2 }, j = { x = json.array { 1 } }, h = "web01",
    hs = json.array { "web*", "db1" },
  })
  t.eq(parse(), {}, "what was not given is left to the task")
end)

t.test("what does not fit is refused with what would be right", function()
  local parse = parser_of {
    size = { "count" }, port = { "integer", min = 1, max = 65535 }, o = { "choice", of = { "a" } },
    word = { "string", match = "^%w+$" }, l = { "list", of = { "integer", max = 3 } },
    j = { "object" },
  }
  refuses(parse, "option --size takes a count", "--size", "many")
  refuses(parse, "option --port takes at most 65535", "--port", "70000")
  refuses(parse, "option --o takes one of a", "--o", "b")
  refuses(parse, "option --word takes text of letters and digits", "--word", "a b")
  refuses(parse, "option --l takes at most 3 as item 2", "--l", "1,4")
  refuses(parse, "option --j takes a JSON object", "--j", "[1]")
  refuses(parse, "did you mean 'size'", "--siez", "1")
end)

t.test("a name with _ has a flag with -, and both are known", function()
  local parse, help = parser_of { max_failed = { "count", default = 0, help = "so many" } }
  t.eq(parse("--max-failed", "2"), { max_failed = 2 })
  t.eq(parse("--max_failed=3"), { max_failed = 3 })
  t.has(help, "--max-failed COUNT  so many (0)")
end)

t.test("a boolean has two flags", function()
  local parse, help = parser_of { be_loud = { "boolean", default = true, help = "make noise" } }
  t.eq(parse "--be-loud", { be_loud = true })
  t.eq(parse "--no-be-loud", { be_loud = false })
  t.eq(parse("--be-loud", "--no-be-loud"), { be_loud = false }, "the last one counts")
  t.has(help, "--no-be-loud")
  refuses(parse, "takes no value", "--be-loud=yes")
end)

t.test("required args come first in the help, and must be given", function()
  local parse, help = parser_of {
    a = { "string", default = "x" }, z = { "string", required = true, help = "the unit" },
  }
  t.has(help, "--z TEXT            the unit (required)\n      --a TEXT")
  refuses(parse, "option --z is missing: the unit", "--a", "y")
  t.eq(parse("--z", ""), { z = "" })
end)

t.test("bounds and defaults are in the help", function()
  local _, help = parser_of {
    port = { "integer", default = 8080, min = 1, max = 65535, help = "where" },
    list = { "list", default = { "a", "b" }, help = "which" },
    mode = { "choice", of = { "fast", "safe" }, default = "safe", help = "how" },
  }
  t.has(help, "--port N            where, 1 to 65535 (8080)")
  t.has(help, '--list A,B,...      which (["a","b"])')
  t.has(help, "--mode fast|safe    how (safe)")
end)

t.test("a secret is read from a file and is in no help", function()
  local parse, help = parser_of { password = { "string", secret = true, help = "for the login" } }
  t.has(help, "--password-file FILE")
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write "hush hush\n"
  file:close()
  t.eq(parse("--password-file", path), { password = "hush hush" })
  os.remove(path)
  refuses(parse, "option --password-file: ", "--password-file", path)
  refuses(parse, "there is no option '--password'", "--password", "x")
end)

t.done()
