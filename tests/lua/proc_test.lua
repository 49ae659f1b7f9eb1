-- SPDX-License-Identifier: MIT
-- Tests of exed.proc.

local fiber = require "exed.fiber"
local proc = require "exed.proc"
local timer = require "exed.timer"
local t = require "support"
local test = t.test

local function alive(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return false end
  local state = file:read("a"):match "%) (%a)"
  file:close()
  return state ~= "Z"
end

test("words are run without a shell", function()
  local r = assert(proc.run { "printf", "%s|%s|", "$HOME", 7 })
  assert(r.code == 0 and r.stdout == "$HOME|7|" and r.stderr == "", r.stdout)
  assert(r.signal == nil and r.timed_out == nil and r.killed == nil)
  r = assert(proc.run { argv = { "echo", "x" } })
  assert(r.stdout == "x\n")
end)

test("a command is read by sh", function()
  local r = assert(proc.run { command = "echo out; echo err >&2; exit 3" })
  assert(r.code == 3 and r.stdout == "out\n" and r.stderr == "err\n")
  r = assert(proc.run { command = "kill -TERM $$" })
  assert(r.code == nil and r.signal == "TERM")
end)

test("stdin, environment and directory arrive", function()
  local bytes = ("\0\xff\n"):rep(100000)
  assert(proc.run({ "cat", stdin = bytes }).stdout == bytes)
  local r = proc.run {
    command = "echo $A $EXED_OP; pwd", env = { A = "b c" }, cwd = "/", op = "x.1",
  }
  assert(r.stdout == "b c x.1\n/\n", r.stdout)
  r = proc.run { "env", env = { A = 1 }, clean = true }
  assert(r.stdout == "A=1\n", r.stdout)
end)

test("output over max is counted, not kept", function()
  local r = proc.run { command = "printf 1234567890; printf abc >&2", max = 4 }
  assert(r.stdout == "1234" and r.stderr == "abc" and r.truncated)
  assert(r.stdout_bytes == 10 and r.stderr_bytes == 3)
end)

test("a time limit kills, and that is a result", function()
  local from = timer.now()
  local r = proc.run { command = "trap '' TERM; sleep 50 & echo $!; wait", timeout = 0.2 }
  assert(timer.now() - from < 5)
  assert(r.timed_out and r.killed and r.survivors == 0 and r.signal == "KILL")
  assert(r.killed_by == "session, tree, output")
  assert(not alive(r.stdout:match "%d+"))
end)

test("what cannot be started is nil and an error", function()
  local r, err = proc.run { "/nowhere/at/all" }
  assert(r == nil and err.code == "not_found" and err.operation == "proc.run")
  assert(err.message == "cannot run /nowhere/at/all: No such file or directory", err.message)
end)

test("misuse raises", function()
  t.raises(function() proc.run({}) end, "either a list of words or a command")
  t.raises(function() proc.run({ "a", command = "b" }) end, "either a list of words or a command")
  t.raises(function() proc.run({ comand = "b" }) end, "no option 'comand'")
  t.raises(function() proc.run({ "a", {} }) end, "each word must be a string")
  t.raises(function() proc.run({ "a\0b" }) end, "must not hold NUL")
  t.raises(function() proc.run({ "a", env = { ["b="] = "c" } }) end, "a name in env")
  t.raises(function() proc.run({ "a", timeout = -1 }) end, "timeout must be seconds")
  t.raises(function() proc.run("a") end, "table expected")
  t.raises(coroutine.wrap(function() proc.run { "true" } end), "only a fiber")
end)

test("fibers wait side by side", function()
  local from, done, event = timer.now(), 0, fiber.event()
  for _ = 1, 5 do
    fiber.spawn("sleeper", function()
      proc.run { "sleep", "0.4" }
      done = done + 1
      event:notify()
    end)
  end
  while done < 5 do assert(event:wait(10)) end
  assert(timer.now() - from < 1.5)
end)

test("ending a fiber kills what it runs", function()
  local path = os.tmpname()
  local handle = fiber.spawn("victim", function()
    proc.run { command = "echo $$ > " .. path .. "; sleep 50" }
  end)
  local pid
  for _ = 1, 500 do
    local file = assert(io.open(path))
    pid = file:read "l"
    file:close()
    if pid then break end
    timer.sleep(0.01)
  end
  assert(pid, "it did not start")
  handle:cancel "enough"
  for _ = 1, 500 do
    if not alive(pid) then break end
    timer.sleep(0.01)
  end
  os.remove(path)
  assert(not alive(pid))
end)

t.done()
