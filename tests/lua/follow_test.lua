-- SPDX-License-Identifier: MIT
-- Followers get every row once and in order, together cost the store what one costs, and put long
-- outputs together again.

local fiber = require "exed.fiber"
local follow = require "exed.follow"
local json = require "exed.json"
local t = require "support"
local timer = require "exed.timer"

-- A job store in memory, with the calls that it got.
local function fake_node()
  local store = { rows = {}, state = "running", calls = { page = 0, entry = 0, targets = 0 } }
  local subs = {}
  function store.is_passing(err) return err.code == "away" end
  function store:targets(_, from, to)
    self.calls.targets = self.calls.targets + 1
    local names = {}
    for i = from, math.min(to, 1000) - 1 do names[#names + 1] = "h" .. i end
    return names
  end
  function store:page(_, after, count, _, bare)
    self.calls.page = self.calls.page + 1
    timer.sleep(0)
    if self.err then return nil, self.err end
    local rows = {}
    for id = after + 1, math.min(after + count, #self.rows) do
      local row = table.move(self.rows[id], 1, 6, 1, {})
      if bare and row[3] == "part" then row[6] = "" end
      rows[#rows + 1] = row
    end
    return { state = self.state, last = #self.rows, rows = rows }
  end
  function store:parts(_, _, index)
    local parts = {}
    for _, row in ipairs(self.rows) do
      if row[2] == index and row[3] == "part" then
        parts[#parts + 1] = { id = row[1], stream = tonumber(row[6]:sub(1, 1)) }
      end
    end
    return parts
  end
  function store:entry(_, id)
    self.calls.entry = self.calls.entry + 1
    timer.sleep(0)
    return self.rows[id][6]
  end
  local conn = {}
  function conn:subscribe()
    local sub = setmetatable({ event = fiber.event() }, { __close = function() end })
    function sub.next(this, seconds)
      local ok, err = this.event:wait(seconds)
      if not ok then return nil, err end
      return tostring(#store.rows)
    end
    subs[#subs + 1] = sub
    return sub
  end
  local function wake()
    for _, sub in ipairs(subs) do sub.event:notify() end
  end
  local function add(index, kind, status, entry)
    store.rows[#store.rows + 1] = { #store.rows + 1, index, kind, 0, status, entry }
  end
  local node = { store = store, conn = conn, config = { api = { state_alias = false } } }
  node.follow = follow.new(node)
  return node, add, wake
end

local function record(index) return ('{"status":5,"n":%d}'):format(index) end

-- Reads all rows in a fiber of its own; the table it returns has `ids` and, at the end, `done`.
local function watch(node, job, after)
  local seen = { ids = {} }
  fiber.spawn("watch", function()
    local reader <close> = assert(node.follow:open(job, after or 0))
    for row in reader:rows() do seen.ids[#seen.ids + 1] = row.id end
    seen.failed, seen.done = reader.failed, true
  end)
  return seen
end

local function wait_for(what, fn)
  local deadline = timer.now() + 30
  while not fn() do
    if timer.now() > deadline then error("it did not come to pass: " .. what, 2) end
    timer.sleep(0.005)
  end
end

t.test("a follower gets all rows in order and ends with the job", function()
  local node, add, wake = fake_node()
  for i = 0, 99 do add(i, "record", 5, record(i)) end
  local seen = watch(node, { jid = "a" })
  wait_for("the first rows", function() return #seen.ids == 100 end)
  add(100, "record", 5, record(100))
  wake()
  wait_for("the late row", function() return #seen.ids == 101 end)
  t.eq(seen.done, nil)
  node.store.state = "ended"
  wake()
  wait_for("the end", function() return seen.done end)
  for i, id in ipairs(seen.ids) do t.eq(id, i) end
  t.eq(next(node.follow.feeds), nil, "nothing is kept of a job that nobody follows")
end)

t.test("a lost wake-up is covered by looking", function()
  local node, add = fake_node()
  local seen = watch(node, { jid = "a" })
  timer.sleep(0.05)
  add(0, "record", 5, record(0))
  node.store.state = "ended"
  wait_for("the row", function() return seen.done end)
  t.eq(#seen.ids, 1)
end)

t.test("200 followers cost the store what one costs", function()
  local function cost(followers)
    local node, add, wake = fake_node()
    for i = 0, 299 do add(i, "record", 5, record(i)) end
    local all = {}
    for i = 1, followers do all[i] = watch(node, { jid = "a" }) end
    wait_for("the first rows", function() return #all[followers].ids == 300 end)
    for i = 300, 999 do add(i, "record", 5, record(i)) end
    node.store.state = "ended"
    wake()
    for i = 1, followers do
      wait_for("the end", function() return all[i].done end)
      t.eq(#all[i].ids, 1000)
    end
    return node.store.calls
  end
  local one, many = cost(1), cost(200)
  t.eq(many.page <= one.page + 1, true, ("pages: %d, for one %d"):format(many.page, one.page))
  t.eq(many.targets, one.targets)
end)

t.test("a follower behind the window misses nothing", function()
  local node, add, wake = fake_node()
  local big = '{"status":5,"stdout":"' .. ("x"):rep(30000) .. '"}'
  for i = 0, 399 do add(i, "record", 5, big) end
  local job = { jid = "a" }
  local fast = watch(node, job)
  wait_for("the fast one", function() return #fast.ids == 400 end)
  local feed = node.follow.feeds.a
  t.eq(feed.first > 1, true, "the window has moved on")
  t.eq(feed.bytes <= 5 << 20, true, "the window is bounded")
  local late, back = watch(node, job), watch(node, job, 390)
  node.store.state = "ended"
  wake()
  wait_for("all", function() return late.done and back.done and fast.done end)
  t.eq({ #late.ids, #back.ids, back.ids[1] }, { 400, 10, 391 })
  for i, id in ipairs(late.ids) do t.eq(id, i) end
end)

t.test("those who come back behind the window share what they read", function()
  local function cost(followers)
    local node, add, wake = fake_node()
    local big = '{"status":5,"stdout":"' .. ("x"):rep(3000) .. '"}'
    for i = 0, 2999 do add(i, "record", 5, big) end
    local job = { jid = "a" }
    local first = watch(node, job)
    wait_for("the first one", function() return #first.ids == 3000 end)
    local before, back = node.store.calls.page, {}
    for i = 1, followers do back[i] = watch(node, job, 300 + i % 50) end
    node.store.state = "ended"
    wake()
    for i = 1, followers do
      wait_for("the end", function() return back[i].done end)
      t.eq({ #back[i].ids, back[i].ids[1] }, { 2700 - i % 50, 301 + i % 50 })
    end
    return node.store.calls.page - before
  end
  local one, many = cost(1), cost(100)
  t.eq(many <= 10 * one + 20, true, ("%d pages, for one %d"):format(many, one))
end)

t.test("a reader says when nothing came, and ends when the node does", function()
  local node, add = fake_node()
  add(0, "record", 5, record(0))
  local reader <close> = assert(node.follow:open({ jid = "a" }, 0))
  t.eq(reader:next(5).id, 1)
  t.eq(reader:next(0.01), false)
  add(1, "record", 5, record(1))
  node.follow:leave()
  local row, err = reader:next()
  while row do row, err = reader:next() end
  t.eq({ row, err.code }, { nil, "leaving" })
end)

t.test("what is not kept any more is not left out in silence", function()
  local node, add = fake_node()
  for i = 0, 9 do add(i, "record", 5, record(i)) end
  node.store.page = function(_, _, after)
    local rows = {}
    for id = math.max(after + 1, 6), 10 do
      rows[#rows + 1] = { id, id, "record", 0, 5, record(id) }
    end
    return { state = "ended", last = 10, rows = rows }
  end
  for after, want in pairs { [0] = "1 to 5", [3] = "4 to 5", [4] = "5 to 5" } do
    local reader <close> = assert(node.follow:open({ jid = "a" .. after }, after))
    local row, err = reader:next()
    t.eq({ row, err.code }, { nil, "trimmed" })
    t.eq(err.message, "entries " .. want .. " are not kept any more")
  end
  local reader <close> = assert(node.follow:open({ jid = "b" }, 5))
  t.eq(reader:next().id, 6)
end)

t.test("a job that goes away ends its followers with the reason", function()
  local node, add, wake = fake_node()
  add(0, "record", 5, record(0))
  local seen = watch(node, { jid = "a" })
  wait_for("the row", function() return #seen.ids == 1 end)
  node.store.err = { code = "gone", message = "no job a" }
  wake()
  wait_for("the end", function() return seen.done end)
  t.eq(seen.failed.code, "gone")
end)

t.test("a store that is away for a while is waited for", function()
  local node, add, wake = fake_node()
  local seen = watch(node, { jid = "a" })
  timer.sleep(0.02)
  node.store.err = { code = "away", message = "no connection" }
  wake()
  timer.sleep(0.1)
  add(0, "record", 5, record(0))
  node.store.err, node.store.state = nil, "ended"
  wait_for("the row", function() return seen.done end)
  t.eq({ #seen.ids, seen.failed }, { 1, nil })
end)

-- Adds a stream in parts of that size.
local function add_parts(add, index, stream, bytes, size)
  for from = 1, #bytes, size do
    local part = ("%d %d\n"):format(stream, from - 1) .. bytes:sub(from, from + size - 1)
    add(index, "part", 0, part)
  end
end

local function render(node, job)
  local reader <close> = assert(node.follow:open(job, 0))
  local texts, most = {}, 0
  for row in reader:rows() do
    if reader:shows(row) then
      local pieces = {}
      assert(reader:write(row, function(piece)
        pieces[#pieces + 1], most = piece, math.max(most, #piece)
      end))
      texts[#texts + 1] = table.concat(pieces)
    end
  end
  return texts, most
end

t.test("a record in parts is put together, byte for byte, a part at a time", function()
  local node, add = fake_node()
  local all = {}
  for byte = 0, 255 do all[#all + 1] = string.char(byte) end
  local bytes = table.concat(all):rep(40) .. "xy"
  local line = ("snow\u{2603}\n"):rep(1000)
  add_parts(add, 3, 1, bytes, 1000)
  add_parts(add, 3, 2, line, 9 * 100)
  add(3, "record", 3, '7{"status":3,"rtc":1}')
  node.store.state = "ended"
  local texts, most = render(node, { jid = "a" })
  t.eq(#texts, 1)
  local found = assert(json.decode(texts[1]))
  t.eq({ found.status, found.rtc, found.stderr == line }, { 3, 1, true })
  t.eq(found.stdout_b64, require "exed.text".base64(bytes))
  t.eq(most < 7000, true, "the largest piece has " .. most .. " bytes")
end)

t.test("with lines followers see the parts as they come", function()
  local node, add = fake_node()
  add(1, "part", 0, "1 0\none\n")
  add(1, "part", 0, "2 0\nt\xffo")
  add(1, "record", 5, '3{"status":5}')
  node.store.state = "ended"
  local texts = render(node, { jid = "a", lines = true })
  t.eq(json.decode(texts[1]), { lines = "one\n", stream = "stdout", offset = 0 })
  t.eq(json.decode(texts[2]), {
    lines = "t\u{fffd}o", lines_b64 = "dP9v", stream = "stderr", offset = 0,
  })
  t.eq(json.decode(texts[3]), { status = 5, stdout = "one\n", stderr = "t\u{fffd}o" })
end)

t.test("state stands beside status when it is asked for", function()
  local node, add = fake_node()
  node.config.api.state_alias = true
  add(0, "record", 4, '{"status":4,"error":"no route"}')
  node.store.state = "ended"
  t.eq(json.decode(render(node, { jid = "a" })[1]), { status = 4, state = 4, error = "no route" })
end)

t.test("nothing is left running", function()
  wait_for("the fibers to end", function() return (fiber.count()) <= 1 end)
end)

t.done()
