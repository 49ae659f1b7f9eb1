-- SPDX-License-Identifier: MIT
-- Processes for tasks: what a task may not do, and that one that loops or eats ends by itself.

local process = require "exed.tasks.process"
local t = require "support"

local modules = process.modules()
local MEMORY <const> = 64 << 20

-- Loads `text` as the task x in a process of its own.
local function start(text, cpu)
  return assert(process.start({ memory = MEMORY, cpu = cpu or 20 }, modules, {
    check = "x", sources = { ["task.x"] = { "tasks/x.lua", text } },
  }))
end

local function wrong_of(text)
  local p = start(text)
  local message = assert(p:next(20))
  return message.wrong or "it loads"
end

t.test("a file that loads is described", function()
  local p = start [[return { summary = "a test", args = { n = { "count", default = "10%" } },
    run = function(job) end }]]
  local described = assert(p:next(20)).described
  t.eq({ described.summary, described.args[1].name, described.args[1].type, described.lock },
    { "a test", "n", "count", "exclusive" })
  local _, err = p:next(20)
  t.eq(err.code, "closed")
  t.eq(p:why_ended(), nil)
end)

t.test("a file that does not load tells file and line", function()
  t.has(wrong_of "return {\n  summary = 1 +\n}", "tasks/x.lua:3:")
  t.has(wrong_of "local x = nil\nreturn x.y", "tasks/x.lua:2: attempt to index")
  t.has(wrong_of "return { summary = 'x' }", "run is missing")
end)

t.test("what differs on a resume, or reaches around, says what to use instead", function()
  for code, part in pairs {
    ["os.time()"] = "use job:now()", ["math.random(3)"] = "use job:random()",
    ["io.open('x')"] = "a task has no files", ["os.execute('x')"] = "host:execute",
    ["setmetatable({}, { __gc = 1 })"] = "use a <close> variable",
    ["setmetatable({}, { __mode = 'k' })"] = "weak table",
    ["collectgarbage()"] = "differs on a resume", ["require 'exed.ssh'"] = "is not there for tasks",
    ["for _ in pairs({ [{}] = 1 }) do end"] = "have no order",
    ["('%p'):format({})"] = "%p shows an address",
  } do
    t.has(wrong_of(code), part, code)
    t.has(wrong_of(code), "tasks/x.lua:1:", code)
  end
end)

-- What its process says when it takes no end, and how it then ended.
local function stuck(text)
  local p = start(text)
  local message, err = p:next(0.3)
  if message then return message, p end
  t.eq(err.code, "timeout", text)
  p:probe()
  message = p:next(1)
  p:kill()
  p:next(20)
  return message, p
end

t.test("a loop is found with its line, and killed", function()
  for _, text in ipairs { "while true do end", "pcall(function() while true do end end)" } do
    local message, p = stuck(text)
    t.eq(message.stuck, "tasks/x.lua:1", text)
    t.eq(p:why_ended(), "was killed")
  end
end)

t.test("what no hook can interrupt is killed all the same", function()
  for _, text in ipairs {
    "('x'):rep(60):find('.-.-.-.-.-.-.-.-b')", "table.move({}, 1, 1 << 62, 2)",
  } do
    local _, p = stuck(text)
    t.eq(p:why_ended(), "was killed", text)
  end
end)

t.test("memory has a limit that pcall does not get past", function()
  for _, text in ipairs {
    "local t = {}\nwhile true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    "local t = {}\nwhile true do pcall(function() t[#t + 1] = ('x'):rep(1 << 20) .. #t end) end",
    "local function f() return 1 + f() end\nf()",
    "return ('x'):rep(1 << 40)",
  } do
    local p = start(text)
    local message = assert(p:next(60), text)
    if message.memory then
      t.has(message.memory, "tasks/x.lua:", text)
      p:next(20)
      t.eq(p:why_ended(), "used more memory than its limit", text)
    else
      t.has(message.wrong, "tasks/x.lua:", text)
    end
  end
end)

t.test("the processor has a limit", function()
  local p = start("while true do end", 1)
  local _, err = p:next(60)
  t.eq({ err.code, p:why_ended() }, { "closed", "used more of the processor than its limit" })
end)

t.done()
