-- SPDX-License-Identifier: MIT
-- Plugins are loaded apart from the node: what is wrong with one is told, and harms nothing else.

local plan = require "exed.plan"
local plugins = require "exed.plugins"
local sys = require "exed.sys"
local t = require "support"

local dir = os.tmpname()
os.remove(dir)

local function make_dirs(...)
  for _, name in ipairs { ... } do
    assert(os.execute(("mkdir -p '%s/%s'"):format(dir, name)))
  end
end

local function write(path, text)
  local file = assert(io.open(dir .. "/" .. path, "w"))
  file:write(text)
  file:close()
end

local function remove_dir() os.execute(("rm -rf '%s'"):format(dir)) end

local function node()
  return {
    config = {
      runner = { modules = dir .. "/modules" }, api = { dialects = { "exed" }, listen = {} },
    },
  }
end

local function open() return plugins.open(node(), dir .. "/share") end

local GOOD <const> = [[return { type = "executor", summary = "%s",
  operations = { ping = function() return {} end } }]]

local function error_of(found, name)
  for _, file in ipairs(found:list "executor") do
    if file.name == name then return file.error end
  end
end

make_dirs("share/executors", "share/lua/handlers/exed", "modules/executors",
  "modules/handlers/exed")

t.test("what is shipped loads", function()
  local found = plugins.open {
    config = {
      runner = { modules = dir .. "/none" }, api = { dialects = { "exed" }, listen = {} },
    },
  }
  for _, kind in ipairs { "executor", "handler" } do
    for _, file in ipairs(found:list(kind)) do t.eq(file.error, nil, file.path) end
  end
  t.eq(type(found.executors.ssh.operations.execute), "function")
  t.eq(found.handlers["exed/execute"].path, "/execute")
  t.eq(sys.share() ~= nil, true)
end)

t.test("a file of the modules directory replaces a shipped one, tests are no plugins", function()
  write("share/executors/one.lua", GOOD:format "shipped")
  write("share/executors/two.lua", GOOD:format "shipped")
  write("share/executors/two_test.lua", "error 'this is a test'")
  write("modules/executors/one.lua", GOOD:format "own")
  local found = open()
  t.eq(found.executors.one.summary, "own")
  t.eq(found.executors.two.summary, "shipped")
  t.eq(#found:list "executor", 2)
end)

local BROKEN <const> = {
  syntax = { "return {", "<eof>" },
  nothing = { "local x = 1", "does not return a table" },
  kind = { "return { type = 'task' }", 'its type must be "executor"' },
  field = { "return { type='executor', summary='x', operation={}, operations={} }",
    "did you mean 'operations'" },
  missing = { "return { type='executor', operations={} }", "summary is missing" },
  wrongtype = { "return { type='executor', summary=5, operations={} }", "must be a string" },
  notfn = { "return { type='executor', summary='x', operations={ping=1} }",
    "operations.ping must be a function" },
  files = { "io.open '/etc/passwd'", "io is not there for plugins" },
  shell = { "os.execute 'true'", "os.execute is not there for plugins: use exed.proc" },
  debugger = { "debug.getinfo(1)", "debug is not there" },
  collect = { "setmetatable({}, { __gc = function() end })", "<close>" },
  other = { "require 'socket'", "only those of exed" },
  bytecode = { "return load('\\27Lua')()", "attempt to call a nil value" },
  raises = { "error { code = 'x', message = 'of my own' }", "of my own" },
}

t.test("a broken file is listed with its error, and nothing else suffers", function()
  for name, case in pairs(BROKEN) do
    write("modules/executors/bad_" .. name .. ".lua", case[1])
  end
  local found = open()
  t.eq(found.executors.one.summary, "own")
  for name, case in pairs(BROKEN) do
    t.eq(found.executors["bad_" .. name], nil, name)
    t.has(error_of(found, "bad_" .. name), case[2], name)
  end
  local _, err = found:executor "bad_missing"
  t.eq(err.code, "bad_request")
  t.has(err.message, "summary is missing")
  _, err = found:executor "tow"
  t.has(err.message, "did you mean 'two'?")
end)

t.test("text that all share cannot be changed by a plugin", function()
  write("modules/executors/text.lua", [[
    string.rep = nil
    assert(("x"):rep(2) == "xx")
    assert(getmetatable "" == false)
    some_global = 1
    return { type = "executor", summary = "x", operations = { ping = function() end } }]])
  local found = open()
  t.eq(error_of(found, "text"), nil)
  t.eq(("x"):rep(2), "xx")
  t.eq(rawget(_G, "some_global"), nil)
  t.eq(type(string.rep), "function")
end)

t.test("a changed file is taken, a broken one leaves the last good one", function()
  write("modules/executors/three.lua", GOOD:format "first")
  local found = open()
  local generation = found.generation
  t.eq(found:scan(), false)
  write("modules/executors/three.lua", GOOD:format "the second one")
  t.eq(found:scan(), true)
  t.eq({ found.executors.three.summary, found.generation }, { "the second one", generation + 1 })
  write("modules/executors/three.lua", "return {{{")
  found:scan()
  t.eq(found.executors.three.summary, "the second one")
  t.has(error_of(found, "three"), "three.lua:1:")
  os.remove(dir .. "/modules/executors/three.lua")
  t.eq(found:scan(), true)
  t.eq(found.executors.three, nil)
end)

t.test("what memory or descriptors were missing for is looked at again", function()
  write("modules/executors/four.lua", "error('not enough memory', 0)")
  local found = open()
  t.has(error_of(found, "four"), "not enough memory")
  t.eq(found:scan(), true)
  write("modules/executors/four.lua", GOOD:format "the fourth")
  t.eq({ found:scan(), found.executors.four.summary, found:scan() }, { true, "the fourth", false })
  local list = sys.list
  function sys.list(path) return nil, { code = "system", message = path .. ": no descriptor" } end
  local ok, changed = pcall(found.scan, found)
  sys.list = list
  t.eq({ ok, changed, found.executors.four.summary }, { true, false, "the fourth" })
  os.remove(dir .. "/modules/executors/four.lua")
  t.eq({ found:scan(), found.executors.four }, { true, nil })
end)

-- What a request for an executor is answered that is not there.
local function asked_for(found, name)
  local _, err = plan.ask({ plugins = found, config = {} }, { executor = name }, {})
  return err
end

t.test("a request is not to blame for an executor that could not be read", function()
  write("modules/executors/five.lua", GOOD:format "the fifth")
  local list = sys.list
  function sys.list(path) return nil, { code = "system", message = path .. ": no descriptor" } end
  local ok, found = pcall(open)
  sys.list = list
  assert(ok, found)
  t.eq(asked_for(found, "five").code, "unavailable")
  t.has(asked_for(found, "five").message, "executor five is not known yet: ")
  found:scan()
  t.eq(found.executors.five.summary, "the fifth")
  t.eq(asked_for(found, "none").code, "bad_request")
  write("modules/executors/five.lua", "error('not enough memory', 0)")
  t.eq(asked_for(open(), "five").code, "unavailable")
  os.remove(dir .. "/modules/executors/five.lua")
  t.eq(asked_for(open(), "five").code, "bad_request")
end)

t.test("handlers are checked with their schemas", function()
  local handler = [[return { type = "handler", path = "/x", methods = { GET = {
    summary = "x", query = { a = { %q } }, run = function() return 200, {} end } } }]]
  write("modules/handlers/exed/good.lua", handler:format "integer")
  write("modules/handlers/exed/bad.lua", handler:format "integre")
  local found = open()
  t.eq(found.handlers["exed/good"].dialect, "exed")
  t.eq(found.handlers["exed/bad"], nil)
  for _, file in ipairs(found:list "handler") do
    if file.name == "bad" then
      t.has(file.error, "methods.GET.query: field 'a': unknown type 'integre', did you mean")
    end
  end
end)

remove_dir()
t.done()
