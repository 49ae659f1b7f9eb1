-- SPDX-License-Identifier: MIT
-- Tests of exed.program.

local fiber = require "exed.fiber"
local program = require "exed.program"
local t = require "support"
local timer = require "exed.timer"
local test = t.test

local LIMIT <const> = 30 -- seconds

local ops = 0

-- Each has an op of its own: what one is killed by must not find the next.
local function sh(text, more)
  ops = ops + 1
  local options = { argv = { "/bin/sh", "-c", text }, op = "program-test." .. ops }
  for name, value in pairs(more or {}) do options[name] = value end
  return assert(program.start(options))
end

-- All lines until the end.
local function rest(child)
  local all = {}
  while true do
    local lines, err = child:lines(LIMIT)
    if not lines then
      assert(err.code == "closed", err.message)
      return all
    end
    table.move(lines, 1, #lines, #all + 1, all)
  end
end

test("lines go both ways, apart from what it prints", function()
  local child <close> = sh('read -r x <&3; echo "got $x" >&3; echo printed; echo more >&3; exit 3')
  assert(child:ended() == nil)
  assert(child:send "a b\n")
  local lines = rest(child)
  assert(#lines == 2 and lines[1] == "got a b" and lines[2] == "more", table.concat(lines, "|"))
  local ended = child:ended()
  assert(ended.code == 3 and ended.said == "printed\n" and not ended.signal)
  local ok, err = child:send "late\n"
  assert(not ok and err.code == "closed")
end)

test("of a line that is too long the beginning comes, and the next ones are whole", function()
  local child <close> = sh([[{ head -c 3000000 /dev/zero | tr '\0' x; echo; echo next;
    printf 123456789; sleep 0.2; printf 0abc; echo; printf 'no end'; } >&3]], { line_max = 10 })
  local lines = rest(child)
  t.eq(lines, { ("x"):rep(10), "next", "1234567890" })
end)

test("lines come a thousand at once, however many there are", function()
  local child <close> = sh "yes '' | head -n 2500 >&3"
  local counts = {}
  child:lines(LIMIT)
  while not child:ended() do timer.sleep(0.02) end
  for lines in function() return child:lines(LIMIT) end do counts[#counts + 1] = #lines end
  local total = 0
  for _, count in ipairs(counts) do
    assert(count <= 1000)
    total = total + count
  end
  assert(total >= 1500, total)
end)

test("it has its environment, directory and nothing else open", function()
  local child <close> = sh('echo "$WORD $EXED_OP $(pwd) $(ls /proc/self/fd | wc -l)" >&3', {
    env = { "WORD=w" }, cwd = "/", op = "program-test",
  })
  local line = rest(child)[1]
  -- 0, 1, 2, 3 and the one by which ls reads the directory
  assert(line == "w program-test / 5", line)
end)

test("of what it prints the end is kept", function()
  local child <close> = sh "seq 1 20000; echo last >&2"
  rest(child)
  local said = child:ended().said
  assert(#said == 16384 and said:find "last\n" and said:find "20000\n", #said)
end)

test("a wait has its limit", function()
  local child <close> = sh "read -r x <&3"
  local lines, err = child:lines(0.05)
  assert(not lines and err.code == "timeout")
  assert(child:send "x\n")
  assert(#rest(child) == 0 and child:ended().code == 0)
end)

test("a kill ends it and what it started", function()
  local child <close> = sh 'sleep 600 & echo "$!" >&3; wait'
  local pid = assert(child:lines(LIMIT))[1]
  child:kill()
  rest(child)
  assert(child:ended().signal == "KILL" or child:ended().error, "it was killed")
  local file = io.open("/proc/" .. pid .. "/stat")
  assert(not file or file:read("a"):match "%) (%a)" == "Z", "the child of the child is gone")
  if file then file:close() end
end)

test("one that is let go ends too", function()
  local pid
  do
    local child <close> = sh 'echo $$ >&3; read -r x <&3'
    pid = assert(child:lines(LIMIT))[1]
  end
  local deadline = timer.now() + LIMIT
  while io.open("/proc/" .. pid .. "/cwd") and timer.now() < deadline do timer.sleep(0.02) end
  assert(timer.now() < deadline)
end)

test("a program that is not there ends at once, and says so", function()
  local child <close> = assert(program.start { argv = { "/nonexistent/program" }, op = "x" })
  assert(#rest(child) == 0)
  local ended = child:ended()
  assert(not ended.code and ended.error:find("/nonexistent/program", 1, true), ended.error)
end)

test("many lines wait until they are taken", function()
  local child <close> = sh "seq 1 300000 >&3"
  timer.sleep(0.2)
  local lines = rest(child)
  assert(#lines == 300000 and lines[300000] == "300000", #lines)
  assert(fiber.count() >= 1)
end)

t.done()
