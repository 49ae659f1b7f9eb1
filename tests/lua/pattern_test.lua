-- SPDX-License-Identifier: MIT
-- Which hosts a pattern names, in which order, and what is told of the rest.

local glob = require "exed.glob"
local inventory = require "exed.inventory"
local ranges = require "exed.cli.ranges"
local t = require "support"

local INV = assert(inventory.parse("hosts", [[
lone
[web]
web[01:05]
[db]
db[a:c]
[cache]
c1 ansible_port=22
c2
web01
[prod:children]
web
db
[empty]
[v6]
2001:db8::1
fe80::1
[dc-1]
h.dc1.example.com
]]))

local function names(list)
  local found = {}
  for i, host in ipairs(list) do found[i] = host.name end
  return table.concat(found, " ")
end

local function match(text)
  local list, err = INV:match(text)
  return list and names(list) or err.message
end

local function resolve(targets)
  local list, unknown = INV:resolve(targets)
  if not list then return unknown.message end
  return names(list) .. " | " .. table.concat(unknown, " ")
end

local ALL = "lone c1 c2 web01 2001:db8::1 fe80::1 h.dc1.example.com web02 web03 web04 web05 "
  .. "dba dbb dbc"

t.test("all and * are all hosts, by groups, as Ansible has them", function()
  t.eq(match "all", ALL)
  t.eq(match "*", ALL)
end)

t.test("names, groups and globs name hosts once each, in order", function()
  for text, want in pairs {
    web02 = "web02", web = "web01 web02 web03 web04 web05", prod = match "web:db", empty = "",
    ["w*"] = match "web", ["web0?"] = match "web", ["web0[13]"] = "web01 web03",
    ["web0[!13]"] = "web02 web04 web05", ["web0[2-4]"] = "web02 web03 web04", ["*1"] =
      "h.dc1.example.com web01 c1 2001:db8::1 fe80::1", ["h.dc1.example.com"] = "h.dc1.example.com",
    ["dc-1"] = "h.dc1.example.com", ["db:web02"] = "dba dbb dbc web02", lone = "lone",
    ["web02:db:web02"] = "web02 dba dbb dbc", ungrouped = "lone", none = "", ["x*"] = "",
    ["web02, db ,,c1"] = "web02 dba dbb dbc c1", ["prod:web02"] = match "prod",
  } do t.eq(match(text), want, text) end
end)

t.test("& keeps, ! takes away, wherever they stand", function()
  for text, want in pairs {
    ["web:!web01"] = "web02 web03 web04 web05", ["!web01:web"] = "web02 web03 web04 web05",
    ["web:&cache"] = "web01", ["&cache:web"] = "web01", ["prod:&web:!web0[1-4]"] = "web05",
    ["web,!web01,!web02"] = "web03 web04 web05", ["!prod:!v6"] = "lone c1 c2 h.dc1.example.com",
    ["web:!cache:c1"] = "web02 web03 web04 web05", ["&db"] = "dba dbb dbc", ["web:!all"] = "",
    ["web:! web01"] = "web02 web03 web04 web05", ["web:&empty"] = "",
    ["prod:&web,cache:!c*"] = "web02 web03 web04 web05",
  } do t.eq(match(text), want, text) end
end)

t.test("places count from 0 within a group or the hosts of a glob, ends included", function()
  for text, want in pairs {
    ["web[0]"] = "web01", ["web[-1]"] = "web05", ["web[-5]"] = "web01", ["web[0:2]"] =
      "web01 web02 web03", ["web[3:]"] = "web04 web05", ["web[:1]"] = "web01 web02",
    ["web[1-2]"] = "web02 web03", ["web[9]"] = "", ["web[-9]"] = "", ["web[9:12]"] = "",
    ["web[3:99]"] = "web04 web05", ["web*[1]"] = "web02", ["d*[1:3]"] = "dbb dbc h.dc1.example.com",
    ["prod:!web[0:3]"] = "web05 dba dbb dbc", ["web[0]:db[0]"] = "web01 dba", ["prod[-1]"] = "dbc",
    ["web[2:1]"] = "",
  } do t.eq(match(text), want, text) end
end)

t.test("ranges name hosts, with leading zeros also where a group could be meant", function()
  for text, want in pairs {
    ["web[01:03]"] = "web01 web02 web03", ["web[04:09]"] = "web04 web05", ["web0[1:2]"] =
      "web01 web02", ["db[a:c:2]"] = "dba dbc", ["c[1:2]"] = "c1 c2", ["web[01:02]:db[b:c]"] =
      "web01 web02 dbb dbc", ["[a:z]one"] = "lone", ["web:!web[02:04]"] = "web01 web05",
    ["web[07:09]"] = "", ["dc-[1:2]"] = "h.dc1.example.com", ["web0[1:3:2]"] = "web01 web03",
    ["w[a:e]b0*"] = "web01 web02 web03 web04 web05", ["web[01:02]*"] = "web01 web02",
  } do t.eq(match(text), want, text) end
end)

t.test("what exed-run folds is read again, ',' in brackets too", function()
  for text, want in pairs {
    ["web[01-03]"] = "web01 web02 web03", ["web[01-02,05]"] = "web01 web02 web05",
    ["web[01,04]"] = "web01 web04", ["c[1,2]"] = "c1 c2", ["c[1-2]"] = "c1 c2",
    ["db,web[01,03-04],c1"] = "dba dbb dbc web01 web03 web04 c1",
    ["web:!web[01-02,04]"] = "web03 web05", ["web:&web[01-02]:!c1"] = "web01 web02",
    ["w?b[01-02,05]"] = "web01 web02 web05", ["web[1-2]"] = "web02 web03",
    ["web[04-09]"] = "web04 web05", ["web[1-999999999]"] = "web02 web03 web04 web05",
    ["web0[1-2,9]"] = "web01 web02", ["web[01-3]"] = "web02 web03 web04",
  } do t.eq(match(text), want, text) end
  t.eq(resolve { "web[04-06]", "c[1,7]" }, "web04 web05 c1 | web06 c7")
  for text, part in pairs {
    ["x[1-2,]y["] = "without ']'", ["x[1--2]"] = "[01-03,07]", ["x[10-9,1]"] = "smaller value",
    ["x[1-99999,1-99999]"] = "too many names", ["x[01-100,5]"] = "same length",
  } do
    local list, err = INV:match(text)
    t.eq(list, nil, text)
    t.has(err.message, part, text)
  end
end)

t.test("what fold makes of hosts names the same hosts", function()
  math.randomseed(11)
  for _ = 1, 60 do
    local list, has, lines = {}, {}, {}
    for _ = 1, math.random(2, 40) do
      local name = ("%s%0" .. math.random(1, 3) .. "d%s"):format(({ "a", "web", "10.0.0." })[
        math.random(3)], math.random(0, 120), ({ "", "-x", ".dc1" })[math.random(3)])
      if not has[name] then
        has[name], list[#list + 1] = true, name
        lines[#lines + 1] = name
      end
    end
    local inv = assert(inventory.parse("hosts", "[web]\n" .. table.concat(lines, "\n") .. "\n"))
    local found = {}
    for _, host in ipairs(assert(inv:match(ranges.fold(list)))) do found[#found + 1] = host.name end
    t.eq(ranges.sort(found), ranges.sort(list), ranges.fold(list))
  end
end)

t.test("IPv6 addresses are not split at ':'", function()
  for text, want in pairs {
    ["2001:db8::1"] = "2001:db8::1", ["web01:2001:db8::1"] = "web01 2001:db8::1",
    ["2001:db8::1:web01"] = "2001:db8::1 web01", ["v6:!fe80::1"] = "2001:db8::1",
    ["fe80::1:2001:db8::1"] = "fe80::1 2001:db8::1", ["[fe80::1]"] = "fe80::1", ["fe80::*"] =
      "fe80::1", ["db:fe80::1"] = "dba dbb dbc fe80::1", ["fe80::2"] = "", ["web01:22"] = "",
    ["fe80::1:!fe80::1"] = "", ["v6:&2001:*::1"] = "2001:db8::1", ["fe80::1,db"] =
      "fe80::1 dba dbb dbc", ["fe80::[1:2]"] = "fe80::1",
  } do t.eq(match(text), want, text) end
end)

t.test("a wrong pattern is a bad request that says what is wrong", function()
  for text, part in pairs {
    ["~"] = "nothing follows the '~'", ["~(web"] = "the regular expression is wrong: missing",
    ["~web\\d{1,2}"] = "a ',' separates patterns", ["web:!~["] = "a '[' without ']'",
    ["web:!"] = "nothing follows the '!'", ["a:b[1"] =
      "without ']'", ["a\0b"] = "control characters", ["web[3:1:1]"] = "smaller value",
    ["x[1:999999]"] = "too many names", ["x[01:5]"] = "same length", ["&"] = "nothing follows",
    ["x[1:900][1:900]"] = "too many names",
  } do
    local list, err = INV:match(text)
    t.eq(list, nil, text)
    t.eq(err.code, "bad_request")
    t.has(err.message, part, text)
    list, err = INV:resolve { "web", text }
    t.eq({ list, err.code }, { nil, "bad_request" }, text)
  end
end)

t.test("targets are resolved together, and those that name nothing are told", function()
  t.eq(resolve { "web02", "nope", "web01", "web02" }, "web02 web01 | nope")
  t.eq(resolve { "web", "!web01" }, "web02 web03 web04 web05 | ")
  t.eq(resolve "web01,nope, x*", "web01 | nope x*")
  t.eq(resolve { "web[04:07]" }, "web04 web05 | web06 web07")
  t.eq(resolve { "web[9]", "db" }, "dba dbb dbc | web[9]")
  t.eq(resolve { "nope", "nope,nope" }, " | nope")
  t.eq(resolve { "empty", "lone" }, "lone | empty")
  t.eq(resolve {}, " | ")
  t.eq(resolve { "", " , " }, " | ")
  t.eq(resolve { "localhost" }, " | localhost")
  t.eq(resolve { "web01:22" }, " | web01:22")
end)

t.test("a mistyped name behind ! or & is told, a glob or an empty group is not", function()
  t.eq(resolve { "db", "!dbx" }, "dba dbb dbc | !dbx")
  t.eq(resolve { "db:&prd" }, " | &prd")
  t.eq(resolve { "db:!empty:!x*" }, "dba dbb dbc | ")
end)

t.test("globs match as fnmatch does", function()
  for _, case in ipairs {
    { "a*", "abc", true }, { "a*c", "abc", true }, { "a*c", "ab", false }, { "*", "", true },
    { "?", "a", true }, { "?", "", false }, { "a?c", "abc", true }, { "[a-c]x", "bx", true },
    { "[!a-c]x", "bx", false }, { "[]]", "]", true }, { "[!]]", "a", true }, { "[a-]", "-", true },
    { "[", "[", true }, { "a[", "a[", true }, { "a[b", "a[b", true }, { "**a", "ba", true },
    { "*a*b*", "xaxbx", true }, { "*a*b*", "xbxax", false }, { "abc", "abcd", false },
    { "a.c", "abc", false }, { "*.example.com", "a.example.com", true }, { "a*", "b", false },
    { "[z-a]", "b", false }, { "*a", "aba", true }, { "a*a", "a", false },
  } do
    t.eq(glob.matches(glob.compile(case[1]), case[2]), case[3], case[1] .. " " .. case[2])
  end
end)

t.test("a glob made to be slow ends like any other", function()
  local parts = glob.compile(("*a"):rep(60) .. "b")
  local name = ("a"):rep(250)
  for _ = 1, 20 do t.eq(glob.matches(parts, name), false) end
end)

local function large(count)
  local parts = { "[web]" }
  for i = 1, count do parts[#parts + 1] = ("w%05d.example.com"):format(i) end
  return assert(inventory.parse("hosts", table.concat(parts, "\n")))
end

t.test("10,000 exact names cost no more than one step each", function()
  local inv = large(10000)
  local list = {}
  for i = 1, 10000 do list[i] = ("w%05d.example.com"):format(10001 - i) end
  local found, unknown = inv:resolve(list)
  t.eq({ #found, #unknown, found[1].name }, { 10000, 0, "w10000.example.com" })
  found, unknown = inv:resolve(table.concat(list, ","))
  t.eq({ #found, #unknown }, { 10000, 0 })
  local without = { "web" }
  for i = 1, 9999 do without[i + 1] = "!" .. list[i] end
  t.eq(#inv:resolve(without), 1)
end)

t.test("a request of very many globs is refused, not carried out", function()
  local inv = large(10000)
  local list = {}
  for i = 1, 10000 do list[i] = "*" .. i .. "*x" end
  local found, err = inv:resolve(list)
  t.eq(found, nil)
  t.has(err.message, "too much work")
end)

t.test("any pattern is answered or refused", function()
  local pieces = {
    "web", "01", "[", "]", ":", "!", "&", ",", "*", "?", "-", "1", "[01:03]", "[0]", "[-1]",
    "[a:c]",
    "db", "~", "fe80::1", "::", " ", "all", "[1:", "[!", ".", "\xff",
  }
  local state, good = 7, 0
  for _ = 1, 1000 do
    local parts = {}
    for i = 1, 1 + state % 9 do
      state = (state * 1103515245 + 12345) & 0x7fffffff
      parts[i] = pieces[1 + (state >> 8) % #pieces]
    end
    local found, err = INV:match(table.concat(parts))
    if found then good = good + 1 else t.eq(err.code, "bad_request") end
  end
  t.eq(good > 100, true)
end)

t.test("a regular expression names groups and hosts, from the start of their names", function()
  for text, want in pairs {
    ["~web0[12]$"] = "web01 web02", ["~(db|c\\d)"] = "dba dbb dbc c1 c2",
    ["~b"] = "", ["~.*dc1"] = "h.dc1.example.com", ["~^web$"] = "web01 web02 web03 web04 web05",
    ["web:!~.*[135]$"] = "web02 web04", ["prod:&~(?:web01|dba)"] = "web01 dba",
    ["~(?i)LONE"] = "lone", ["~web0(?=1):c2"] = "web01 c2", ["~c[12],lone"] = "c1 c2 lone",
    ["!~(web|db|c\\d|2001|fe80|h\\.)"] = "lone", ["~2001\\:"] = "2001:db8::1",
  } do
    t.eq(match(text), want, text)
  end
  local found, unknown = INV:resolve { "web01", "~nothing" }
  t.eq({ names(found), unknown }, { "web01", { "~nothing" } })
end)

t.test("a regular expression that would take for ever is refused", function()
  local parts = {}
  for i = 1, 20000 do parts[i] = ("a"):rep(40) .. i end
  local many = assert(inventory.parse("hosts", table.concat(parts, "\n")))
  local started = os.clock()
  for _, text in ipairs { "~(a+)+$", "~(a|a)*[bc]", "~(.*a){20}[bc]", "~((a*)*)*[bc]",
    "~(?:(?:a?){30}){30}[bc]", "~" .. ("a?"):rep(40) .. ("a"):rep(40) .. "[bc]" } do
    local list, err = many:match(text)
    t.eq(list, nil, text)
    t.has(err.message, "bad pattern", text)
  end
  local bad = os.clock() - started
  started = os.clock()
  for _ = 1, 6 do t.eq(#many:match "~a+\\d+$", 20000) end
  -- Refused ones cost at most what the bound of time allows.
  local good = os.clock() - started
  t.eq(bad < 6 * 0.5 + 4 * good, true, ("bad %.3f good %.3f"):format(bad, good))
  local list, err = many:match("~" .. ("a"):rep(1001))
  t.eq(list, nil)
  t.has(err.message, "longer than 1000 bytes")
end)

t.done()
