-- SPDX-License-Identifier: MIT
-- What hosts have of their own in a plan: values that the command names, and per_host.

local own = require "exed.plan.own"
local plan = require "exed.plan"
local t = require "support"

local VERDICT <const> = { [0] = "CHANGED", default = "FAILED" }
local CONFIG <const> = {
  runtime = { executor_budget = 300000 }, runner = { executor = "mine" },
  store = { output_cap = 1000, ttl = 86400 },
  ssh = { connect_timeout = 10, window = 200, keep = 60, max_connections = 1000, port = 22,
    user = "ops", command_timeout = {} },
}

local function host(name, vars, more)
  local made = { name = name, address = "10.0.0.1", vars = vars or {}, groups = { web = true } }
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

local function fill(fields)
  local made = { transport = "ssh", verdict = VERDICT }
  for key, value in pairs(fields) do made[key] = value end
  local node = {
    config = CONFIG,
    plugins = { executors = { mine = { operations = { go = function() return made end } } } },
  }
  local request = { operation = "go", args = {}, count = 1 }
  local found, err = plan.ask(node, request, {})
  if not found then return nil, err.message end
  return plan.fill(node, { jid = "j", request = request, slices = 1, total = 1 }, { k = 0 }, found)
end

-- ---- {host.X} and {vars.X} ----------------------------------------------------------------------

for _, case in ipairs {
  { "a word", "echo {host.name}", 'echo "$x_h1"', { "host.name" } },
  { "the same place twice", "a {vars.x} {host.port} {vars.x}", 'a "$x_h1" "$x_h2" "$x_h1"',
    { "vars.x", "host.port" } },
  { "part of a word", "mkdir /srv/{vars.app}/log", 'mkdir /srv/"$x_h1"/log', { "vars.app" } },
  { "behind quotes that are closed", [[echo 'a' "b\"" \' {host.name}]],
    [[echo 'a' "b\"" \' "$x_h1"]], { "host.name" } },
  { "not in a comment, whose quotes do not count", "# don't {host.nme}\necho {host.name} # it's",
    "# don't {host.nme}\necho \"$x_h1\" # it's", { "host.name" } },
  { "a # within a word is no comment", "echo a#'b' {host.user}", "echo a#'b' \"$x_h1\"",
    { "host.user" } },
  { "other braces are the shell's", "echo {a,b} ${host.name} ${x} {vars.} {Host.name} { x; }",
    "echo {a,b} ${host.name} ${x} {vars.} {Host.name} { x; }", nil },
} do
  t.test("places: " .. case[1], function()
    local filled = assert(fill { command = case[2] })
    t.eq({ filled.command, filled.places }, { case[3], case[4] })
  end)
end

t.test("places: in words, what is around them is quoted", function()
  local filled = assert(fill {
    argv = { "curl", "it's {vars.a}&{host.name}", "{vars.a}", "{x}", "", "$HOME" },
  })
  t.eq(filled.command, [[curl 'it'\''s '"$x_h1"'&'"$x_h2" "$x_h1" '{x}' '' '$HOME']])
  t.eq(filled.places, { "vars.a", "host.name" })
end)

for _, case in ipairs {
  { "in double quotes", [[echo "x {host.name}"]], "{host.name} stands between quotes" },
  { "in single quotes", [[awk '{vars.x}']], "{vars.x} stands between quotes" },
  { "what a host has not", "echo {host.nme}", "did you mean 'name'?" },
  { "a password", "echo {host.password}", "a host has address, name, port, user" },
} do
  t.test("places: refused: " .. case[1], function()
    local filled, message = fill { command = case[2] }
    t.eq(filled, nil)
    t.has(message, case[3])
  end)
end

t.test("values: in the order of the places, each as text", function()
  local filled = assert(fill {
    argv = { "{host.name}", "{host.address}", "{host.port}", "{host.user}", "{vars.t}", "{vars.n}",
      "{vars.b}", "{vars.l}" },
  })
  local asks = own.new(filled, CONFIG)
  local vars = { t = "it's", n = 7, b = true, l = { 1, 2 } }
  t.eq(asks:of(host("web01", vars)).values,
    { "web01", "10.0.0.1", "22", "ops", "it's", "7", "true", "[1,2]" })
  t.eq(asks:of(host("web02", vars, { port = 2222, user = "me" })).values[3], "2222")
end)

t.test("values: what a host lacks keeps it alone from running, with the reason", function()
  local asks = own.new(assert(fill { command = "x {vars.rack}" }), CONFIG)
  t.eq({ asks:of(host("web01")) }, { nil, "the host has no vars.rack, which the command names" })
  t.eq({ asks:record_or(host("web01")) },
    { nil, { status = 3, error = "the host has no vars.rack, which the command names" } })
  t.eq({ asks:of(host("web01", { rack = "a\0b" })) }, { nil, "vars.rack has a NUL byte" })
  t.eq(asks:of(host("web02", { rack = "a" })).values, { "a" })
end)

t.test("a plan that is the same for all has nothing of their own", function()
  t.eq(own.new(assert(fill { command = "x" }), CONFIG), nil)
end)

t.test("what executors are shipped with run clients' commands as they are", function()
  local node = { config = CONFIG, plugins = { executors = { ssh = {
    operations = { execute = function(request)
      return { transport = "ssh", command = request.args.command, verdict = VERDICT }
    end },
  } } } }
  local found = plan.ask(node, {
    operation = "execute", executor = "ssh", args = { command = "echo '{host.name}'" }, count = 1,
  })
  t.eq({ found.command, found.places }, { "echo '{host.name}'" })
end)

-- ---- per_host -----------------------------------------------------------------------------------

t.test("per_host: the fields that differ, one call for each host", function()
  local calls = 0
  local filled = assert(fill {
    command = "plain {vars.a}", env = { A = "1", B = "plan" }, per_host = function(given)
      calls = calls + 1
      if given.name == "web01" then return nil end
      return {
        argv = { "own", "{vars.b}" }, stdin = "in", env = { B = given.vars.b }, cwd = "/srv",
        timeout = "2m",
      }
    end,
  })
  local asks = own.new(filled, CONFIG)
  t.eq(asks:of(host("web01", { a = "x" })), { values = { "x" } })
  t.eq(asks:of(host("web02", { b = "y" })), {
    command = 'own "$x_h1"', values = { "y" }, stdin = "in", env = { "A=1", "B=y" }, cwd = "/srv",
    timeout = 120,
  })
  t.eq(calls, 2)
end)

t.test("per_host: what it is told of the host is its own to change, and has no secrets", function()
  local seen
  local vars = { a = "x" }
  local asks = own.new(assert(fill {
    per_host = function(given)
      seen = given
      given.vars.a = "changed"
      return { command = "x" }
    end,
  }), CONFIG)
  t.eq(asks:of(host("web01", vars)), { command = "x" })
  t.eq({ vars.a, seen.name, seen.address, seen.port, seen.user, seen.groups },
    { "x", "web01", "10.0.0.1", 22, "ops", { web = true } })
end)

for _, case in ipairs {
  { "a field that all have", { verdict = VERDICT }, "'verdict' cannot differ between hosts" },
  { "a field that is none", { comand = "x" }, "did you mean 'command'?" },
  { "a type", { command = 5 }, "command must be a string, got 5" },
  { "a place between quotes", { command = "echo '{host.name}'" }, "stands between quotes" },
  { "a relative cwd", { cwd = "x" }, "cwd must be an absolute path" },
  { "no table", "x", "a table is wanted, got 'x'" },
  { "no command where the plan has none", {}, "it gave no command" },
} do
  t.test("per_host: wrong: " .. case[1], function()
    local asks = own.new(assert(fill { per_host = function() return case[2] end }), CONFIG)
    local mine, why = asks:of(host "web01")
    t.eq(mine, nil)
    t.has(why, "per_host: ")
    t.has(why, case[3])
  end)
end

t.test("per_host: one that raises or refuses for a host harms no other", function()
  local asks = own.new(assert(fill {
    command = "x", per_host = function(given)
      if given.name == "web01" then return nil, "no such port" end
      if given.name == "web02" then return given.vars.a.b end
    end,
  }), CONFIG)
  t.eq({ asks:of(host "web01") }, { nil, "no such port" })
  local _, why = asks:of(host "web02")
  t.has(why, "per_host: tests/lua/plan_own_test.lua:")
  t.eq(asks:of(host "web03"), {})
end)

t.test("per_host: one that never ends is asked once", function()
  local calls = 0
  local asks = own.new(assert(fill {
    command = "x", per_host = function()
      calls = calls + 1
      while true do pcall(function() while true do end end) end
    end,
  }), CONFIG)
  for i = 1, 3 do
    local mine, why = asks:of(host("web0" .. i))
    t.eq(mine, nil)
    t.has(why, "ran 300000 instructions without waiting")
  end
  t.eq(calls, 1)
end)

t.done()
