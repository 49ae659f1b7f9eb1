-- SPDX-License-Identifier: MIT
-- Declared args: what each type takes, what is refused with which text, wrong declarations.

local form = require "exed.schema.form"
local schema = require "exed.schema"
local t = require "support"

local NULL = setmetatable({}, { __name = "null" })
local ARRAY = { __name = "json.array" }
local function array(list) return setmetatable(list, ARRAY) end

-- A decoder that knows one text, in place of the JSON module.
schema.json = {
  null = NULL,
  is_array = function(found) return getmetatable(found) == ARRAY end,
  decode = function(text)
    if text == '["a","b"]' then return array { "a", "b" } end
    if text == '{"k":1}' then return { k = 1 } end
    return nil
  end,
}

local function one(decl) return schema.compile { x = decl } end

-- Reads one value of a field in both forms, or in the one that is named.
local function read(decl, value, kind)
  local values, err = one(decl):check({ x = value }, kind or "json")
  if not values then return nil, err.message end
  return values.x
end

local function takes(decl, cases, kind)
  for _, case in ipairs(cases) do t.eq(read(decl, case[1], kind), case[2], t.show(case[1])) end
end

local function refuses(decl, cases, part, kind)
  for _, value in ipairs(cases) do
    local found, message = read(decl, value, kind)
    t.eq(found, nil, t.show(value))
    t.has(message, part, t.show(value))
    t.has(message, "'x'", t.show(value))
  end
end

t.test("texts: string, path, url, command", function()
  takes({ "string" }, { { "a b", "a b" }, { "", "" }, { "é", "é" } })
  refuses({ "string" }, { 5, true, {}, array {} }, "must be text")
  refuses({ "string" }, { "a\0b" }, "without NUL")
  refuses({ "string" }, { "\xff" }, "UTF-8")
  refuses({ "command" }, { "" }, "not empty")
  takes({ "path" }, { { "/etc/x", "/etc/x" } })
  refuses({ "path" }, { "etc/x", "" }, "'x' must be an absolute path, got '")
  takes({ "url" }, { { "https://a/b?c", "https://a/b?c" } })
  refuses({ "url" }, { "ftp://a", "http://", "http://a b", "x" }, "http:// or https://")
end)

t.test("integer and number take values and their texts", function()
  takes({ "integer" }, { { 5, 5 }, { "5", 5 }, { "-5", -5 }, { "+5", 5 }, { 5.0, 5 } })
  refuses({ "integer" }, { "5x", "", "0x5", "1e3", " 5", 5.5, true, "99999999999999999999", {} },
    "'x' must be a whole number")
  takes({ "number" }, { { 5, 5 }, { 1.5, 1.5 }, { "1.5", 1.5 }, { "-2e3", -2000.0 }, { "+1", 1 } })
  refuses({ "number" }, { "x", "", "0x5", "nan", "inf", "1e999", true, 0 / 0, math.huge, "." },
    "'x' must be a number")
end)

t.test("booleans take 1, true, yes and 0, false, no in any case", function()
  for _, text in ipairs { "1", "true", "True", "TRUE", "yes", "YES", "Yes" } do
    t.eq(read({ "boolean" }, text, "text"), true, text)
    t.eq(read({ "boolean" }, text, "json"), true, text)
  end
  for _, text in ipairs { "0", "false", "False", "no", "NO" } do
    t.eq(read({ "boolean" }, text, "text"), false, text)
  end
  takes({ "boolean" }, { { true, true }, { false, false }, { 1, true }, { 0, false } })
  refuses({ "boolean" }, { "2", "", "maybe", 2, 1.0, {} },
    "a boolean: true, 1, yes, false, 0 or no")
end)

t.test("count is a number or a percentage", function()
  takes({ "count" }, { { 3, 3 }, { "3", 3 }, { "10%", "10%" }, { "0%", "0%" }, { "010%", "10%" } })
  refuses({ "count" }, { -1, "-1", 1.5, "x", "%", "1.5%", true, "" },
    "3, or a percentage such as 10%")
  refuses({ "count" }, { "101%", "9999%" }, "at most 100%")
  refuses({ "count", max = 5 }, { 6 }, "at most 5")
  t.eq(read({ "count", max = 5 }, "90%"), "90%")
end)

t.test("duration becomes seconds", function()
  takes({ "duration" }, {
    { 90, 90 }, { "90", 90 }, { "90s", 90 }, { "5m", 300 }, { "4h", 14400 }, { "2d", 172800 },
    { 0, 0 }, { "0.5s", 0.5 }, { 1.5, 1.5 }, { "1.5m", 90 },
    { "500ms", 0.5 }, { "5 m", 300 }, { "5M", 300 }, { "250 MS", 0.25 }, { "1w", 604800 },
  })
  refuses({ "duration" }, { "5x", "m", "", "-5", -5, "5 mm", "1m30s", true, 0 / 0, "5sm" },
    "a duration such as 90, 500ms, 90s, 5m, 4h or 2d")
  refuses({ "duration" }, { "99999d", math.huge }, "at most 1000000000 seconds")
  refuses({ "duration", min = 1, max = 60 }, { "2m" }, "at most 60")
  refuses({ "duration", min = "1m", max = "1h" }, { 59, "61m" }, "at ")
  takes({ "duration", max = "1h" }, { { "60m", 3600 } })
  t.eq({ schema.duration "2m", schema.count "5%" }, { 120, "5%" })
end)

t.test("choice names what there is, and the nearest", function()
  local decl = { "choice", of = { "started", "stopped" } }
  takes(decl, { { "started", "started" } })
  refuses(decl, { "startd" }, "one of started, stopped, got 'startd', did you mean 'started'?")
  refuses(decl, { 5, "" }, "one of started, stopped")
end)

t.test("lists are JSON lists or comma lists, of any type", function()
  takes({ "list" }, {
    { array { "a", "b" }, { "a", "b" } }, { "a, b,,c ", { "a", "b", "c" } }, { "", {} },
    { array {}, {} }, { '["a","b"]', { "a", "b" } },
  })
  takes({ "list", of = "integer" }, { { "1,2", { 1, 2 } }, { array { 1, "2" }, { 1, 2 } } })
  takes({ "list", of = { "choice", of = { "a", "b" } } }, { { "b,a", { "b", "a" } } })
  refuses({ "list", of = "integer" }, { "1,x", array { 1, "x" } },
    "a whole number as item 2, got 'x'")
  refuses({ "hosts" }, { array { "a", false } }, "text as item 2, got false")
  refuses({ "list" }, { 5, true, { a = 1 } }, "must be a list")
  refuses({ "list", min = 1, max = 2 }, { "" }, "at least 1 items")
  refuses({ "list", min = 1, max = 2 }, { "a,b,c" }, "at most 2 items")
  t.eq(read({ "list" }, { "a,b", "c", '["a","b"]' }, "text"), { "a", "b", "c", "a", "b" })
end)

t.test("objects are told from lists", function()
  takes({ "object" }, { { { a = 1 }, { a = 1 } }, { {}, {} }, { '{"k":1}', { k = 1 } } })
  refuses({ "object" }, { array {}, array { 1 }, "x", 5, '["a","b"]' }, "must be a JSON object")
end)

t.test("host is one name; hosts are patterns in any form", function()
  takes({ "host" }, { { " web01 ", "web01" }, { "fe80::1", "fe80::1" } })
  refuses({ "host" }, { "web*", "a,b", "-x", "", "a b", 5 }, "'x' must be")
  takes({ "hosts" }, {
    { "web:!web01, db ", { "web:!web01", "db" } }, { array { "a", "b,c" }, { "a", "b", "c" } },
    { "web[01:20]", { "web[01:20]" } }, { "[::1]", { "[::1]" } }, { "", {} },
  })
  t.eq(read({ "hosts" }, { "a", "b,c" }, "text"), { "a", "b", "c" })
  refuses({ "hosts" }, { 5, { a = 1 }, array { 5 }, array { "a\0" } }, "must be")
end)

t.test("a pattern is told in words", function()
  for pattern, want in pairs {
    ["^[%w_][%w@._:-]*$"] = "a letter, a digit or _, then letters, digits and @ . _ : -",
    ["[0-7][0-7][0-7][0-7]?"] = "3 to 4 of 0 to 7", ["%x%x"] = "2 of hex digits",
    ["^/[^%s]*$"] = "/, then anything but blanks", ["[/~]%d?"] = "one of / ~, then perhaps a digit",
    ["a.b"] = "a, then any character, then b", ["a%$$"] = "a, then $", ["^[%]^]+$"] = "] ^",
  } do
    t.eq(form.describe(pattern), want)
  end
  for _, pattern in ipairs { "", "(a)", "%b()", "%f[%w]a", "%1" } do
    t.eq(form.describe(pattern), nil)
  end
end)

t.test("bounds and forms of texts", function()
  refuses({ "string", min = 2 }, { "a" }, "at least 2 characters")
  refuses({ "string", max = 2 }, { "abc" }, "at most 2 characters")
  t.eq(read({ "string", max = 2 }, "éé"), "éé")
  refuses({ "integer", min = 1, max = 9 }, { 0 }, "at least 1")
  refuses({ "integer", min = 1, max = 9 }, { "10" }, "at most 9")
  t.eq(read({ "string", match = "[%w_]+" }, "a_1"), "a_1")
  refuses({ "string", match = "[%w_]+" }, { "a b", " a", "" }, "text of letters, digits and _")
  refuses({ "string", match = "(%w)x?" }, { "-" }, "text of the form (%w)x?")
  t.eq(read({ "string", match = "^%d+$" }, "12"), "12")
end)

local SERVICE = schema.compile {
  targets = { "hosts", required = true, alias = "target", first = true,
    message = "no target(s) given" },
  name = { "string", required = true, message = "bad service name or state" },
  graceful = { "boolean", default = false },
  size = { "count", default = "10%" },
  tags = { "list", default = { "a" } },
  token = { "string", secret = true, max = 3 },
}

local function refusal(input, kind)
  local values, err = SERVICE:check(input, kind or "json")
  t.eq(values, nil)
  t.eq(err.code, "bad_request")
  return err.field, err.message
end

t.test("defaults, null, aliases", function()
  local values = SERVICE:check({ target = "a", name = "x", size = NULL }, "json")
  t.eq(values, { targets = { "a" }, name = "x", graceful = false, size = "10%", tags = { "a" } })
  values.tags[1] = "changed"
  t.eq(SERVICE:check({ target = "a", name = "x" }, "text").tags, { "a" })
  t.eq({ refusal { target = "a", targets = "b", name = "x" } }, { "target", "no target(s) given" })
  local _, err = schema.compile({ a = { "string", alias = { "b" } } }):check({ a = "1", b = "2" },
    "text")
  t.eq(err.message, "'a' and 'b' are the same field, give one")
end)

t.test("a fixed message takes the place of each error of its field, and `first` comes first",
  function()
    t.eq({ refusal { wrong = 1 } }, { "targets", "no target(s) given" })
    t.eq({ refusal { targets = "" } }, { "targets", "no target(s) given" })
    t.eq({ refusal { targets = NULL } }, { "targets", "no target(s) given" })
    t.eq({ refusal { targets = "a" } }, { "name", "bad service name or state" })
    t.eq({ refusal { targets = "a", name = 5 } }, { "name", "bad service name or state" })
  end)

t.test("missing, repeated and unknown fields are named", function()
  local checker = schema.compile { cmd = { "command", required = true }, dry_run = { "boolean" } }
  local function message(input, kind)
    local _, err = checker:check(input, kind or "text")
    return err and err.message
  end
  t.eq(message {}, "'cmd' is missing")
  t.eq(message { cmd = { "a", "b" } }, "'cmd' is given 2 times, give it once")
  t.eq(message { cmd = { "a" } }, nil)
  t.eq(message { cmd = "a", dryrun = "1" }, "unknown field 'dryrun', did you mean 'dry_run'?")
  t.eq(message { cmd = "a", zzz = "1" }, "unknown field 'zzz' (known: cmd, dry_run)")
  t.eq(message { cmd = "a", dryrun = NULL }, "unknown field 'dryrun', did you mean 'dry_run'?")
  t.eq(message(array {}, "json"), "a JSON object is wanted")
  t.eq(message(5, "json"), "a JSON object is wanted")
  t.eq(schema.compile({}, { extra = true }):check({ x = "1" }, "text"), {})
  t.raises(function() checker:check({}, "xml") end, "kind must be")
end)

t.test("a secret is in no message", function()
  local _, text = refusal { targets = "a", name = "x", token = "s3cret" }
  t.has(text, "'token' must be at most 3 characters")
  t.eq(text:find("s3cret", 1, true), nil)
end)

t.test("one field can be judged before the others", function()
  t.eq(SERVICE:field("targets", { target = "a", rest = 1 }, "json"), { "a" })
  local found, err = SERVICE:field("targets", { rest = 1 }, "json")
  t.eq({ found, err.message }, { nil, "no target(s) given" })
  t.raises(function() SERVICE:field("target2", {}, "json") end, "no field 'target2' is declared")
end)

t.test("a long value is cut in messages, and control characters do not show", function()
  local _, text = read({ "integer" }, ("x"):rep(500) .. "\n")
  t.eq(#text < 150, true)
  _, text = read({ "integer" }, "a\n\27[1m")
  t.has(text, "'a??[1m'")
end)

t.test("a wrong declaration raises and names the field", function()
  local function bad(decl, part)
    local text = t.raises(function() schema.compile { size = decl } end, part)
    t.has(text, "field 'size'")
  end
  bad({ "cuont" }, "unknown type 'cuont', did you mean 'count'?")
  bad({}, "must be written { TYPE, option = value, ... }")
  bad("string", "must be written")
  bad({ "string", requird = true }, "unknown option 'requird', did you mean 'required'?")
  bad({ "string", required = "yes" }, "required must be a boolean")
  bad({ "string", required = true, default = "x" }, "exclude each other")
  bad({ "integer", default = "x" }, "the default 'x' is not a whole number")
  bad({ "integer", default = 5, max = 3 }, "the default 5 is not at most 3")
  bad({ "integer", min = 3, max = 1 }, "min is larger than max")
  bad({ "boolean", min = 3 }, "min and max are not for the type boolean")
  bad({ "integer", match = "%d" }, "match is not for the type integer")
  bad({ "string", match = "[" }, "match is no Lua pattern")
  bad({ "choice" }, "a choice needs of")
  bad({ "choice", of = { 1 } }, "must be text")
  bad({ "choice", of = { "a" }, default = "b" }, "the default 'b' is not one of a")
  bad({ "list", of = "lst" }, "unknown type 'lst', did you mean 'list'?")
  bad({ "list", of = { "string", required = true } }, "not for the items of a list")
  bad({ "string", of = { "a" } }, "`of` is not for the type string")
  bad({ "string", alias = 5 }, "alias must be a name")
  bad({ "string", "x" }, "unknown option 2")
  t.raises(function() schema.compile { ["a b"] = { "string" } } end, "must be a word")
  t.raises(function() schema.compile "x" end, "must be a table")
  t.raises(function() schema.compile { a = { "string", alias = "b" }, b = { "string" } } end,
    "the alias 'b' is another field")
end)

t.test("a checker describes itself", function()
  local list = schema.describe(schema.compile {
    b = { "list", of = "integer", default = { 1 }, help = "numbers" },
    a = { "string", required = true, alias = "c", match = "%w+" },
    s = { "string", secret = true, default = "hidden" },
    f = { "boolean", default = false },
  })
  t.eq({ list[1].name, list[1].required, list[1].aliases, list[1].match },
    { "a", true, { "c" }, "%w+" })
  t.eq({ list[2].default, list[2].items.type, list[2].help }, { { 1 }, "integer", "numbers" })
  t.eq({ list[3].default, list[4].default }, { false, "***" })
end)

t.test("any value of any type is read or refused", function()
  local values = {
    "", "a", "1", "10%", "5m", "/a", "http://a", "[", "a,b", "\xff", "\0", 0, -1, 1.5, 0 / 0,
    math.huge, math.mininteger, true, false, {}, { a = 1 }, array {}, array { 1, "a", array {} },
    NULL, ("x"):rep(10000), "9223372036854775808", "-", "%", ".", "e", ",", ":",
  }
  local types = require("exed.schema.types").readers
  for kind in pairs(types) do
    local checker = one { kind, of = kind == "choice" and { "a" } or nil }
    for _, value in ipairs(values) do
      for _, source in ipairs { "json", "text" } do
        if source == "json" or type(value) == "string" then
          local found, err = checker:check({ x = value }, source)
          t.eq(found ~= nil or type(err.message) == "string", true)
        end
      end
    end
  end
end)

t.done()
