-- SPDX-License-Identifier: MIT
-- executors/README.md: its examples load, give the plans that it says, and pass its own test.

local config = require "exed.config"
local plugins = require "exed.plugins"
local proc = require "exed.proc"
local rehearse = require "exed.plan.rehearse"
local sys = require "exed.sys"
local t = require "support"
local test = require "exed.test"

local file = assert(io.open(sys.share() .. "/executors/README.md"))
local text = file:read "a"
file:close()

local blocks = {}
for kind, block in text:gmatch "\n```(%l+)\n(.-)\n```" do
  blocks[kind] = blocks[kind] or {}
  table.insert(blocks[kind], block)
end

local dir = os.tmpname()
os.remove(dir)
assert(os.execute(("mkdir -p '%s'"):format(dir)))

local function write(name, block)
  local out = assert(io.open(dir .. "/" .. name, "w"))
  out:write(block, "\n")
  out:close()
  return dir .. "/" .. name
end

local power, scan = write("power.lua", blocks.lua[1]), write("scan.lua", blocks.lua[3])

t.test("the examples load", function()
  for name, path in pairs { power = power, scan = scan } do
    assert(plugins.load(path, "executor", name))
  end
end)

t.test("the first passes its own test", function()
  local cases = 0
  test.runner = function(_, fn)
    cases = cases + 1
    fn()
  end
  test.dir = dir
  assert(load(blocks.lua[2], "@power_test.lua"))()
  t.eq(cases, 3)
end)

t.test("a wrong setting, a field that is none and a plan that is none are told", function()
  local request = { op = "execute", args = { command = "on" } }
  t.eq({ rehearse.plan(power, "power", request) },
    { nil, "executor power: [executor power] 'password' is missing" })
  t.raises(function() rehearse.plan(power, "power", { operation = "x" }) end, "unknown field")
  local bad = write("bad.lua", [[return { type = "executor", summary = "x", operations = {
    execute = function(request)
      return { transport = "ssh", n = request.hosts.groups.web }
    end } }]])
  local _, why = rehearse.plan(bad, "bad",
    { op = "execute", hosts = { count = 3, groups = { web = 2 } } })
  t.has(why, "the plan of executor bad: unknown field 'n'")
end)

t.test("the program of the second does what the text says", function()
  local plan = assert(rehearse.plan(scan, "scan", { op = "execute", args = { command = "1" } }))
  t.eq({ plan.transport, plan.hosts_file, plan.argv[2] },
    { "process", "json-lines", "{hosts_file}" })
  local hosts = write("hosts", '{"name":"web01","address":"127.0.0.1"}')
  local program = write("scan.py", blocks.python[1])
  local done = assert(proc.run {
    argv = { "/bin/sh", "-c", 'exec 3>&1 && exec python3 "$@"', "sh", program, hosts, "1" },
    timeout = 30, max = 4096,
  })
  t.has(done.stdout, '{"host": "web01", "status": "FAILED", "error": "')
end)

t.test("its settings are those that the configuration knows", function()
  t.eq(config.runtime.executor_budget, 10000000)
  t.eq(math.type(config.runner.processes), "integer")
  for _, name in ipairs { "executor_budget", "processes" } do t.has(text, name .. "`") end
end)

os.execute(("rm -rf '%s'"):format(dir))
t.done()
