-- SPDX-License-Identifier: MIT
-- The files of a plan, sent to this machine as if it were a host: they are there, whole, before the
-- command runs, and nothing else is left.

local fanout = require "exed.fanout"
local json = require "exed.json"
local plan = require "exed.plan"
local proc = require "exed.proc"
local sending = require "exed.sending"
local sys = require "exed.sys"
local t = require "support"

local dir = os.tmpname()
os.remove(dir)

local function sh(command)
  local done = assert(proc.run { argv = { "/bin/sh", "-c", command }, timeout = 20, max = 4096 })
  return done.stdout, done.code
end

sh(("mkdir -p '%s/at it' '%s/tmp' '%s/modules/executors/files/mine/sub'"):format(dir, dir, dir))

local function path(name) return dir .. "/" .. name end

local function write(name, text)
  local file = assert(io.open(path(name), "w"))
  file:write(text)
  file:close()
  return path(name)
end

local function read(name)
  local file = io.open(path(name))
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

local jobs = 0
local CONFIG <const> = {
  runtime = { executor_budget = 1000000 },
  runner = { executor = "mine", modules = dir .. "/modules", settle_timeout = 1 },
  store = { output_cap = 100000, ttl = 86400 },
  ssh = { connect_timeout = 10, window = 200, keep = 0, max_connections = 10,
    command_timeout = {}, fence_dir = dir .. "/fences" },
}

-- Runs a plan here; returns its record, or nil, err.
local function run(fields, stdin)
  local made = { transport = "local", verdict = { [0] = "CHANGED", default = "OK" } }
  for name, value in pairs(fields) do made[name] = value end
  jobs = jobs + 1
  local node = {
    config = CONFIG,
    plugins = { executors = { mine = { operations = { go = function() return made end } } } },
  }
  local request = { operation = "go", args = {}, count = 1 }
  local found, err = plan.ask(node, request, {})
  if not found then return nil, err.message end
  local filled = plan.fill(node, {
    jid = ("job%d"):format(jobs), request = request, slices = 1, total = 1,
  }, { k = 0 }, found)
  filled.env = { "TMPDIR=" .. path "tmp" }
  filled.stdin = stdin or filled.stdin
  local sent
  sent, err = sending.attach(filled, found)
  if not sent then return nil, err.message end
  local fan, record = assert(fanout.start(filled, { fanout.host { name = "here" } }, { 0 })), nil
  for list in function() return fan:next(30) end do
    for _, entry in ipairs(list) do
      if entry.kind == "record" then record = json.decode(entry.data) end
    end
  end
  return record
end

-- What was sent lies nowhere any more.
local function nothing_left()
  t.eq(sh(("ls -A '%s'; ls -A '%s' | grep '^[.]exed' || :"):format(path "tmp", path "at it")), "")
end

t.test("files: contents and files of the node, with their modes, and stdin besides", function()
  local long = ("0123456789"):rep(20000) .. "\0end"
  write("long", long)
  write("modules/executors/files/mine/sub/own", "own\n")
  write("at it/two", "old")
  local record = assert(run({
    files = {
      { content = "one $x '\n", dest = path "at it/one", mode = "0600" },
      { src = path "long", dest = path "at it/two", mode = "755" },
      { content = "", dest = path "at it/three" },
      { src = "sub/own", dest = path "at it/four" },
    },
    command = ("cat; cat '%s'; stat -c %%a '%s'/*; exit 0"):format(path "at it/one", path "at it"),
  }, "in\0put\n"))
  t.eq({ record.status, record.stderr }, { 5, "" })
  t.eq(record.stdout, "in\0put\none $x '\n644\n600\n644\n755\n")
  t.eq(read "at it/two" == long, true)
  t.eq({ read "at it/three", read "at it/four" }, { "", "own\n" })
  nothing_left()
end)

t.test("files: without a command they are all that is done", function()
  local record = assert(run { files = { { content = "x", dest = path "at it/only" } } })
  t.eq({ record.status, record.rtc, read "at it/only" }, { 5, 0, "x" })
  nothing_left()
end)

t.test("files: what cannot be put there is a failure, whatever the verdict says", function()
  for _, case in ipairs {
    { path "nowhere/x", "there is no directory " .. path "nowhere" },
    { path "at it", path "at it" .. " is a directory" },
  } do
    local record = assert(run {
      files = { { content = "x", dest = case[1] } }, command = "echo ran",
    })
    t.eq({ record.status, record.rtc, record.stdout }, { 3, 125, "" })
    t.has(record.stderr, case[2])
  end
  CONFIG.ssh.fence_dir = path "fences"
  sh(("rmdir '%s'"):format(path "tmp"))
  local record = assert(run { files = { { content = "x", dest = path "at it/y" } } })
  sh(("mkdir '%s'"):format(path "tmp"))
  t.eq({ record.status, record.rtc, read "at it/y" }, { 3, 125, nil })
  t.has(record.stderr, "there is no directory " .. path "tmp")
  nothing_left()
end)

t.test("files: a command that is killed leaves nothing of them", function()
  local record = assert(run {
    files = { { content = "x", dest = path "at it/z" } }, command = "sleep 60", timeout = 1,
  })
  t.eq({ record.status, record.timed_out, read "at it/z" }, { 3, true, "x" })
  nothing_left()
end)

t.test("files: what is longer than [ssh] max_file is refused", function()
  local files = require "exed.plan.files"
  for _, one in ipairs { { text = ("x"):rep(11) }, { path = write("eleven", ("x"):rep(11)) } } do
    one.dest, one.mode = "/x", "0644"
    local ok, err = files.attach({ verdict = {}, command = "" }, { one }, 10)
    t.eq(ok, nil)
    t.has(err.message, "10")
  end
  t.eq(sys.stat(path "eleven").size, 11)
end)

sh(("rm -rf '%s'"):format(dir))
t.done()
