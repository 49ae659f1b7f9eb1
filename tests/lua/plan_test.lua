-- SPDX-License-Identifier: MIT
-- Plans of executors: each field, what is left open, and that a wrong one is told as such.

local fanout = require "exed.fanout"
local plan = require "exed.plan"
local records = require "exed.task.records"
local shapes = require "exed.api.shapes"
local sys = require "exed.sys"
local t = require "support"

local VERDICT <const> = { [0] = "CHANGED", [10] = "OK", default = "FAILED" }

local function node_with(operation)
  return {
    config = {
      runtime = { executor_budget = 1000000 },
      runner = { executor = "mine", modules = "/nonexistent" },
      store = { output_cap = 1000, ttl = 86400 },
      ssh = { connect_timeout = 10, window = 200, keep = 60, max_connections = 1000,
        command_timeout = { go = 70 } },
    },
    plugins = { executors = { mine = { operations = { go = operation } } } },
  }
end

local function ask(made, changes)
  local request = { operation = "go", args = {}, count = 3 }
  for key, value in pairs(changes or {}) do request[key] = value end
  local node = node_with(function(_) return made end)
  local found, err = plan.ask(node, request)
  if not found then return nil, err end
  return plan.fill(node, { jid = "j", request = request, slices = 1, total = 3 }, { k = 0 }, found)
end

local function with(changes)
  local made = { transport = "ssh", command = "x", verdict = VERDICT }
  for key, value in pairs(changes) do made[key] = value end
  return made
end

for _, line in ipairs {
  { "transport: ssh", {}, "transport", "ssh" },
  { "transport: local", { transport = "local" }, "transport", "local" },
  { "command", { command = "ls | wc" }, "command", "ls | wc" },
  { "argv: words, quoted", { command = nil, argv = { "ls", "a b" } }, "command", "ls 'a b'" },
  { "stdin", { stdin = "in" }, "stdin", "in" }, { "cwd", { cwd = "/tmp" }, "cwd", "/tmp" },
  { "env: names and texts", { env = { B = "2", A = "1" } }, "env", { "A=1", "B=2" } },
  { "env: a list", { env = { "A=1" } }, "env", { "A=1" } },
  { "verdict", {}, "verdict", { [0] = 5, [10] = 1, default = 3 } },
  { "stdout: text", { stdout = "text" }, "facts", false },
  { "stdout: facts", { stdout = "facts" }, "facts", true },
  { "stdout: json", { stdout = "json" }, "json", true },
  { "stdout: text is no json", {}, "json", false },
  { "timeout", { timeout = "2m" }, "timeout", 120 },
  { "timeout, from the settings", {}, "timeout", 70 },
  { "window", { window = 7 }, "window", 7 },
  { "output_cap", { output_cap = 10 }, "output_cap", 10 },
  { "output_cap, from the settings", {}, "output_cap", 1000 },
} do
  t.test("a plan: " .. line[1], function()
    local made = with(line[2])
    if made.argv then made.command = nil end
    t.eq(assert(ask(made))[line[3]], line[4])
  end)
end

t.test("a plan: the request's timeout and window come first", function()
  local filled = ask(with { timeout = 5, window = 7 }, { timeout = 9, window = 3 })
  t.eq({ filled.timeout, filled.window, filled.group_window }, { 9, 3 })
end)

t.test("a plan: fence is for what changes a host, unless it says no", function()
  t.eq(ask(with {}, { fence = true }).fence, true)
  t.eq(ask(with { fence = false }, { fence = true }).fence, nil)
end)

for _, line in ipairs {
  { "no table", "x", "a plan is a table" },
  { "a transport that is not there", with { transport = "pigeon" },
    'must be "ssh", "local" or "process"' },
  { "hosts_file of another transport", with { hosts_file = "names" },
    'is for transport "process"' },
  { "records of another transport", with { records = "json-lines" },
    'is for transport "process"' },
  { "a process with files", with { transport = "process", files = {} }, "has no files" },
  { "a process with per_host", with { transport = "process", per_host = print },
    "has no per_host" },
  { "a process with stdout", with { transport = "process", stdout = "json" }, "has no stdout" },
  { "a process with a fence", with { transport = "process", fence = true }, "has no fence" },
  { "a process without a command", { transport = "process" }, "wants command or argv" },
  { "records of another form", with { transport = "process", records = "xml" },
    'records must be "json-lines"' },
  { "hosts of another form", with { transport = "process", hosts_file = "xml" },
    'hosts_file must be "names" or "json-lines"' },
  { "a process that names a host", with { transport = "process", command = "x {host.name}" },
    "one process is run for all hosts; {hosts_file} names them" },
  { "no verdict", { transport = "ssh", command = "x" }, "verdict is missing" },
  { "an unknown status", with { verdict = { [0] = "GOOD" } }, "'GOOD' is no status" },
  { "an exit code that is none", with { verdict = { zero = "OK" } }, "is no exit code" },
  { "command and argv", with { argv = { "x" } }, "either command or argv" },
  { "words that are no text", { transport = "ssh", argv = { 1 }, verdict = VERDICT }, "word 1" },
  { "a type", with { stdin = 3 }, "stdin must be a string, got 3" },
  { "a variable that is none", with { env = { "a b=1" } }, "is no NAME=text" },
  { "a relative cwd", with { cwd = "tmp" }, "cwd must be an absolute path" },
  { "no duration", with { timeout = "soon" }, "timeout must be a duration" },
  { "no number of hosts", with { window = 0 }, "window must be a whole number, at least 1" },
  { "stdout of another form", with { stdout = "xml" },
    'stdout should be "text", "json" or "facts"' },
  { "an unknown field, with the nearest", with { comand = "x" }, "did you mean 'command'?" },
  { "no file", with { files = {} }, "files is empty" },
  { "a file that is no table", with { files = { "x" } }, "files[1] must be a table" },
  { "a file's field", with { files = { { dst = "/x" } } }, "did you mean 'dest'?" },
  { "a file's type", with { files = { { dest = "/x", content = 5 } } },
    "files[1].content must be a string" },
  { "neither src nor content", with { files = { { dest = "/x" } } }, "either src or content" },
  { "both", with { files = { { dest = "/x", src = "/y", content = "" } } },
    "either src or content" },
  { "a relative dest", with { files = { { dest = "x", content = "" } } }, "must be the absolute" },
  { "a dest that is a directory", with { files = { { dest = "/x/", content = "" } } },
    "must be the absolute path of a file" },
  { "a mode that is a number", with { files = { { dest = "/x", content = "", mode = 644 } } },
    "files[1].mode must be a string" },
  { "a mode that is none", with { files = { { dest = "/x", content = "", mode = "rw" } } },
    "must be octal digits in quotes" },
  { "files without the fence", with { fence = false, files = { { dest = "/x", content = "" } } },
    "files need the fence" },
  { "a src that is not there", with { files = { { dest = "/x", src = "/nonexistent/y" } } },
    "there is no file /nonexistent/y" },
  { "a src outside", with { files = { { dest = "/x", src = "../mine.lua" } } },
    "there is no file ../mine.lua" },
  { "a src that is a directory", with { files = { { dest = "/x", src = "/tmp" } } },
    "/tmp is no file" },
} do
  t.test("a wrong plan: " .. line[1], function()
    local found, err = ask(line[2])
    t.eq({ found, err.code }, { nil, "bad_request" })
    t.has(err.message, "the plan of executor mine: ")
    t.has(err.message, line[3])
  end)
end

t.test("an operation that an executor has not, and one that refuses, are 400", function()
  local node = node_with(function() return nil, "not today" end)
  local _, err = plan.ask(node, { operation = "fly", args = {}, count = 1 })
  t.eq(err, { code = "bad_request", message = "executor mine cannot do fly" })
  _, err = plan.ask(node, { operation = "go", args = {}, count = 1 })
  t.eq(err, { code = "bad_request", message = "not today" })
end)

t.test("what an operation is told of its request", function()
  local told
  local node = node_with(function(request)
    told = request
    return with {}
  end)
  local hosts = { { groups = { web = true, all = true } }, { groups = { all = true } } }
  assert(plan.ask(node, {
    operation = "go", args = { x = 1 }, timeout = 5, window = 3, count = 2, who = "me",
  }, hosts))
  t.eq(told, {
    op = "go", args = { x = 1 }, timeout = 5, window = 3,
    hosts = { count = 2, groups = { web = 1, all = 2 } },
  })
end)

t.test("a task's variables stand beside the plan's, by which its command works", function()
  local filled = assert(ask(with { env = { CMD = "x", A = "plan" } }))
  local args = { changes = true, fields = { env = { A = "task", B = "2" } } }
  require "exed.tasks.request".apply(filled, args)
  t.eq(filled.env, { "B=2", "A=plan", "CMD=x" })
end)

t.test("a plan of one process for all hosts", function()
  local node = node_with(function()
    return { transport = "process", argv = { "mine", "--hosts={hosts_file}", "a b" }, timeout = 5 }
  end)
  local request = { operation = "go", args = {}, count = 3 }
  local _, err = plan.ask(node, request)
  t.eq(err.message, "executor mine works in a running exed only: ask its API")
  node.runner, request.fence = {}, true
  _, err = plan.ask(node, request)
  t.has(err.message, "executor mine has no fence")
  request.fence = nil
  local made = assert(plan.ask(node, request))
  local filled = plan.fill(node, { jid = "j", request = request, slices = 1, total = 3 },
    { k = 0 }, made)
  t.eq({ filled.command, filled.timeout, filled.fence, filled.verdict },
    { "mine '--hosts='\"$EXED_HOSTS_FILE\" 'a b'", 5, nil, {} })
  t.eq(filled.process, { hosts_file = "names", judges = false, calm = false })
end)

t.test("what stdout may not give a record: all that the API and tasks know of one", function()
  local own = {}
  for _, name in ipairs(fanout.own_names()) do own[name] = true end
  for name in pairs(shapes.Record.properties) do t.eq(own[name], true, name) end
  for name in pairs(shapes.Chunk.additionalProperties.anyOf[2].properties) do
    t.eq(own[name], true, name)
  end
  local record = records.record({ name = "web01" }, "step", { i = 0, status = 1 }, print)
  for name in pairs(record) do t.eq(own[name], true, name) end
  for line in io.lines(sys.share() .. "/lua/meta/hosts.lua") do
    local class = line:match "^%-%-%-@class ([%w.]+)"
    own.class = class or own.class
    local name = own.class == "exed.Record" and line:match "^%-%-%-@field ([%w_]+)"
    if name then t.eq(own[name], true, name) end
  end
end)

t.done()
