-- SPDX-License-Identifier: MIT
-- The warnings about tasks: each line of the table of what an author must not do, and that what is
-- fine has none.

local lint = require "exed.task.lint"
local sys = require "exed.sys"
local t = require "support"

-- The warnings of a body of run(job), as "line: text" in one text.
local function warnings_of(body)
  local text = 'local each = require "exed.each"\nlocal http = require "exed.http"\n'
    .. "return { summary = 's', run = function(job)\n" .. body .. "\nend }\n"
  assert(load(text, "=test"))
  local lines = {}
  for i, one in ipairs(lint.check(text)) do lines[i] = ("%d: %s"):format(one.line - 3, one.text) end
  return table.concat(lines, "\n")
end

local function warns(body, part, line)
  local found = warnings_of(body)
  t.has(found, part, body)
  t.eq(select(2, found:gsub("\n", "")), 0, body .. " has one warning")
  if line then t.eq(tonumber(found:match "^%d+"), line, body) end
end

local function fine(body) t.eq(warnings_of(body), "", body) end

t.test("what differs on a resume, and what to use instead", function()
  for code, part in pairs {
    ["local x = os.time()"] = "os.time is not there for tasks: use job:now()",
    ["local x = os.clock()"] = "os.clock is not there for tasks: use job:now()",
    ["local x = os.date '%F'"] = "os.date is not there for tasks: use job:now()",
    ["local x = math.random(3)"] = "math.random is not there for tasks: use job:random()",
    ["local x = os.getenv 'HOME'"] = "os.getenv is not there for tasks: declare an argument",
    ["local f = io.open '/x'"] = "io.open is not there for tasks: a task has no files",
    ["collectgarbage()"] = "collectgarbage is not there for tasks",
    ["local x = setmetatable({}, { __mode = 'k' })"] = "__mode: when memory is freed",
    ["local x = setmetatable({}, { __gc = print })"] = "__gc: when memory is freed",
  } do
    warns(code, part)
  end
  warns("\nlocal f = io.open '/x'", "io.open", 2)
end)

t.test("fields and locals of those names are nobody's business", function()
  fine "local x = job.args.os; x = job.args.io.open"
  fine "local facts = { os = 1, io = 2 }; job:say('%s', facts.os)"
  fine "local text = 'os.time()' -- os.time()\n--[[ io.open ]]"
end)

t.test("an address, and a class of characters", function()
  warns("job:say('%p', job)", "%p shows an address")
  warns("local x = ('%-10p'):format(job)", "%p shows an address")
  warns("local x = string.format('%p', job)", "%p shows an address")
  fine "local x = ('a.b'):find '%p'; x = ('%%p'):format(); x = ('a'):gsub('%p', '')"
end)

t.test("hosts as keys that pairs would have to order", function()
  warns([[local seen = {}
    each.window(job.hosts, { size = 2 }, function(host) seen[host] = true end)
    for host in pairs(seen) do job:say("%s", host) end]], "keys of seen are hosts", 3)
  warns([[local seen = {}
    for _, host in ipairs(job.hosts) do seen[host] = 1 end
    local first = next(seen)
    job:say("%s", first)]], "keys of seen are hosts", 3)
  fine [[local seen = {}
    each.window(job.hosts, { size = 2 }, function(host) seen[host.name] = true end)
    for name in pairs(seen) do job:say("%s", name) end]]
  fine [[local seen = {}
    for _, host in ipairs(job.hosts) do seen[host] = 1 end
    for _, host in ipairs(job.hosts) do job:say("%s", seen[host]) end]]
end)

t.test("an order that turns equal items round", function()
  warns("table.sort(job.targets, function(a, b) return #a <= #b end)", "use < or >")
  fine "table.sort(job.targets, function(a, b) return #a < #b end)"
end)

t.test("a loop on a time that stands still", function()
  warns("local t0 = job:now()\nwhile job:now() < t0 + 60 do end", "stands still", 2)
  warns("local t0 = job:now()\nrepeat local x = 1 until job:now() > t0 + x", "stands still", 2)
  warns("while true do if job:now() > 5 then break end end", "stands still")
  fine "while job:now() < 60 do job:sleep(1) end"
  fine "local function look() end\nwhile job:now() < 60 do look() end"
  fine "for _ = 1, 3 do job:say('%d', job:now()) end"
end)

t.test("a drain before its defer", function()
  warns([[each.window(job.hosts, {}, function(host)
    host:execute "lb drain"
    job:defer(function() host:execute "lb restore" end)
    host:service { name = "nginx", state = "restarted" }
  end)]], "the defer comes after what it may have to put back (line 5)", 3)
  warns([[job.hosts:execute "drain"
    job:sleep(3)
    job:defer(function() job.hosts:execute { "restore" } end)]], "defer first")
  fine [[each.window(job.hosts, {}, function(host)
    job:defer(function() host:execute "lb restore" end)
    host:execute "lb drain"
  end)]]
  fine [[local old, new = job.hosts[1], job.hosts[2]
    local lag = new:execute("lag", { changes = false }).stdout
    old:execute({ "look" }, { changes = false })
    job:defer(function() old:execute "reset" end)
    old:execute("set " .. lag)]]
  fine [[local a, b = job.hosts[1], job.hosts[2]
    a:execute "x"
    job:defer(function() b:execute "y" end)
    b:execute "z"]]
end)

t.test("state in a file of the node", function()
  warns("job.node:execute { '/usr/bin/tee', '/tmp/state' }", "a file of the node")
  warns("job.node:execute { '/bin/sh', '-c', 'echo 1 > /tmp/state' }", "a file of the node")
  fine "job.node:execute { '/usr/local/bin/point-dns', 'db', 'x' }"
  fine "job.hosts:execute 'echo 1 > /etc/x'"
end)

t.test("polling by hand", function()
  warns([[local host = job.hosts[1]
    while true do
      if host:execute("test -e /done", { check = false, changes = false }).ok then break end
      job:sleep(1)
    end]], "polling by hand", 2)
  warns("for _ = 1, 1000 do job.hosts[1]:ping() job:sleep(1) end", "polling by hand")
  warns("repeat job:sleep(1) until http.get('http://x/').status == 200", "polling by hand")
  fine "for _ = 1, 3 do job.hosts[1]:execute 'try' job:sleep(1) end"
  fine "for _, host in ipairs(job.hosts) do host:execute 'x' job:sleep(1) end"
  fine "while true do job:wait_until({}, function() return job.hosts[1]:ping().ok end) break end"
end)

t.test("pcall around an effect whose error is thrown away", function()
  warns("pcall(function() job.hosts:ping() end)", "what pcall catches here is thrown away")
  warns("pcall(job.hosts.execute, job.hosts, 'x')", "thrown away")
  warns("local ok = pcall(function() job.hosts:ping() end)", "thrown away")
  warns("local _, _ = xpcall(function() http.get 'http://x/' end, print)", "thrown away")
  fine "local ok, err = pcall(function() job.hosts:ping() end)\nif not ok then job:abort(err) end"
  fine "if not pcall(function() job.hosts:ping() end) then job:abort 'x' end"
  fine "return pcall(function() job.hosts:ping() end)"
  fine "pcall(function() return 1 + nil end)"
end)

t.test("check = false, and nobody looks at the answer", function()
  warns("job.hosts:execute('x', { check = false })", "nobody looks at the answer")
  warns("\njob.hosts[1]:service { name = 'x', state = 'started', check = false }",
    "nobody looks at the answer", 2)
  warns("local record = job.hosts[1]:execute('x', { check = false })\nrecord = nil",
    "nobody looks at the answer")
  warns("job:defer(function() job.hosts:execute('x', { check = false }) end)", "nobody looks")
  warns("each.window(job.hosts, { check = false }, function(host) host:ping() end)", "nobody looks")
  fine([[each.window(job.hosts, { size = 2 }, function(host)
    local r = host:execute("x", { check = false })
    if not r.ok then host:fail "no" end
  end)]])
  warns("each.window(job.hosts, {}, function(host)\nhost:ping { check = false }\nend)",
    "nobody looks", 2)
  fine "local record = job.hosts[1]:execute('x', { check = false })\njob:say('%s', record.status)"
  fine "if job.hosts[1]:execute('x', { check = false }).ok then job:say 'yes' end"
  fine "local n = #job.hosts:execute('x', { check = false }).ok\njob:say('%d', n)"
  fine "return job.hosts:execute('x', { check = false })"
  fine "local t = {}\nt.record = job.hosts:execute('x', { check = false })\nreturn t"
  fine "job.hosts:execute('x', { check = true })"
end)

t.test("a comment silences the warnings of its line", function()
  fine "job.hosts:execute('x', { check = false }) -- check: ok, it is gone already"
  warns("job.hosts:execute('x', { check = false })\n-- check: ok", "nobody looks")
end)

t.test("strings and comments of every form are no code", function()
  fine "local a, b, c = [==[ os.time() ]] ]==], 'it\\'s os.time()', \"--\"\nreturn a .. b .. c"
  fine "--[==[ os.time()\n]==] return 0x1p4 + 1e-3 + 3 .. ''"
  warns("local a = [[\n\n]] local b = os.time()", "os.time", 3)
end)

t.test("the tasks that are shipped have none", function()
  local n = 0
  for _, file in ipairs(assert(sys.list(sys.share() .. "/tasks"))) do
    if file:find "%.lua$" and not file:find "_test%.lua$" then
      local f = assert(io.open(sys.share() .. "/tasks/" .. file))
      t.eq(lint.check(f:read "a"), {}, file)
      f:close()
      n = n + 1
    end
  end
  assert(n > 0)
end)

t.done()
