-- SPDX-License-Identifier: MIT
-- Executables that print an inventory: what is read, what is refused, and how often they run. The
-- program is a function here; real ones run in tests/functional/test_inventory_program.py.

local inventory = require "exed.inventory"
local inventory_holder = require "exed.inventory.holder"
local json = require "exed.json"
local programs = require "exed.inventory.programs"
local t = require "support"

inventory.use_json(json)

-- A world with one executable, d/run; print: function(argv) -> stdout, or a whole result of run.
local function world(print)
  local w = { runs = {}, clock = 100, print = print, files = {
    ["d/run"] = { type = "file", size = 1, mtime = 1, inode = 1, mode = 493, uid = 0 },
    d = { type = "directory", size = 1, mtime = 1, inode = 2, mode = 493, uid = 0 },
  } }
  function w.stat(path)
    local found = w.files[path]
    if found then return found end
    return nil, { message = path .. ": No such file or directory" }
  end
  function w.run(options)
    w.runs[#w.runs + 1] = options
    local answer, err = w.print(options.argv)
    if type(answer) ~= "string" then return answer, err end
    return { code = 0, stdout = answer, stderr = "" }
  end
  w.options = {
    stat = w.stat, list = function() return {} end, read = function() return "#!/bin/sh\n" end,
    programs = programs.new {
      run = w.run, now = function() return w.clock end, stat = w.stat,
      owner = function() return 1000 end, period = 60, timeout = 30, max = 1000,
    },
  }
  function w.open() return inventory_holder.open("d/run", w.options) end
  return w
end

local GOOD = [[{"web": {"hosts": ["a", "b"], "vars": {"x": 1}},
  "_meta": {"hostvars": {"a": {"y": 2}}}}]]

t.test("what it prints is the inventory; it runs with a clean environment and a limit", function()
  local w = world(function() return GOOD end)
  local holder, err = w.open()
  t.eq(err, nil)
  local a = holder.inventory:host "a"
  t.eq({ #holder.inventory.hosts, a.vars.x, a.vars.y }, { 2, 1, 2 })
  local asked = w.runs[1]
  t.eq(asked.argv, { "d/run", "--list" })
  t.eq({ asked.clean, asked.timeout, asked.max }, { true, 30, 1000 })
  local names = {}
  for name in pairs(asked.env) do names[#names + 1] = name end
  table.sort(names)
  t.eq(names, { "HOME", "LANG", "PATH" })
end)

t.test("it does not run again before its period has passed, whatever happens", function()
  local text = GOOD
  local w = world(function() return text end)
  local holder = w.open()
  text = GOOD:gsub('"b"', '"b", "c"')
  w.clock = w.clock + 59
  t.eq({ holder:refresh(), #w.runs }, { false, 1 })
  w.files["d/run"].mtime = 2
  holder:refresh()
  t.eq({ #w.runs, #holder.inventory.hosts }, { 1, 2 })
  w.clock = w.clock + 2
  t.eq({ holder:refresh(), #w.runs, #holder.inventory.hosts }, { true, 2, 3 })
  w.clock = w.clock + 61
  t.eq({ holder:refresh(), #w.runs, holder.generation }, { false, 3, 3 })
end)

t.test("a failure leaves the last good one in force and tells what it said", function()
  local answer, failure = GOOD, nil
  local w = world(function() return answer, failure end)
  local holder = w.open()
  local function broken(with, want)
    answer, failure = with, { message = "no such program" }
    w.clock = w.clock + 61
    local _, err = holder:refresh()
    t.has(err and err.message, want)
    t.has(err.message, "d/run: ")
    t.eq(#holder.inventory.hosts, 2)
    local runs = #w.runs
    _, err = holder:refresh()
    t.eq({ err ~= nil, #w.runs }, { true, runs })
  end
  broken({ code = 3, stdout = "", stderr = "no\27[31m token\n" },
    "ended with code 3: no [31m token")
  broken({ signal = "SEGV", stdout = "", stderr = "" }, "ended by SIGSEGV")
  broken({ timed_out = true, stdout = "", stderr = "waiting" }, "did not end within 30 s: waiting")
  broken({ code = 0, truncated = true, stdout = GOOD, stderr = "" }, "more than 1000 bytes")
  broken(nil, "cannot be run: no such program")
  broken("[1]", "is no JSON object")
  broken("{", "is no JSON object (")
  broken('{"g": 1}', "the value' of the group 'g' must be")
  broken('{"g": {"hosts": {}}, "_meta": {"hostvars": {}}}',
    "'hosts' of the group 'g' must be a list")
  broken('{"g": {"hosts": ["-x"]}, "_meta": {"hostvars": {}}}', "must not begin with '-'")
  broken('{"_meta": {"hostvars": [1]}}', "_meta.hostvars must be an object")
  broken('{"g": ["a"], "_meta": {"hostvars": {"a": 1}}}', "the variables of the host 'a'")
  answer = GOOD
  w.clock = w.clock + 61
  t.eq({ holder:refresh(), holder.error }, { true, nil })
end)

t.test("one that others may write to is not run", function()
  for path, changes in pairs {
    ["d/run"] = { { mode = 509 }, { mode = 507 }, { uid = 7 } },
    d = { { mode = 511 }, { uid = 7 } },
  } do
    for _, change in ipairs(changes) do
      local w = world(function() return GOOD end)
      for name, value in pairs(change) do w.files[path][name] = value end
      local _, err = w.open()
      t.has(err and err.message, "d/run: is not run: ")
      t.eq(#w.runs, 0)
    end
  end
  local w = world(function() return GOOD end)
  w.files["d/run"].uid = 1000
  t.eq(select(2, w.open()), nil)
end)

t.test("without _meta each host is asked for, within one limit of time and of number", function()
  local w
  w = world(function(argv)
    w.clock = w.clock + 10
    if argv[2] == "--list" then return '{"g": ["a", "b"]}' end
    return argv[3] == "a" and '{"x": "of a"}' or ""
  end)
  local holder, err = w.open()
  t.eq(err, nil)
  t.eq({ holder.inventory:host("a").vars.x, holder.inventory:host("b").vars.x }, { "of a", nil })
  t.eq({ w.runs[2].timeout, w.runs[3].timeout }, { 20, 10 })
  w = world(function(argv)
    w.clock = w.clock + 16
    return argv[2] == "--list" and '{"g": ["a", "b"]}' or "{}"
  end)
  t.has(select(2, w.open()).message, "did not end within 30 s")
  local list = {}
  for i = 1, 501 do list[i] = '"h' .. i .. '"' end
  w = world(function() return '{"g": [' .. table.concat(list, ",") .. "]}" end)
  t.has(select(2, w.open()).message, "501 hosts are too many to ask for one by one (500)")
  t.eq(#w.runs, 1)
end)

t.test("encrypted and unsafe values are known", function()
  local w = world(function()
    return [[{"g": {"hosts": ["a", "b"]}, "_meta": {"hostvars": {
      "a": {"ansible_host": {"__ansible_vault": "x"}, "s": {"__ansible_vault": "x"}},
      "b": {"u": {"__ansible_unsafe": "text"}}}}}]]
  end)
  local inv = w.open().inventory
  t.has(inv:host("a").problem, "d/run: ansible_host is encrypted by ansible-vault")
  t.eq({ inv:host("a").vars.s, inv:host("b").problem, inv:host("b").vars.u }, { nil, nil, "text" })
end)

t.done()
