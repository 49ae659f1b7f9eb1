-- SPDX-License-Identifier: MIT
-- wait_up and wait_down: when they end, by what a probe finds, and what is told of it.

local t = require "support"
local waits = require "exed.tasks.waits"

-- Waits on a made-up clock; found: what each probe finds, by index, the last one for good.
local function follow(op, found, options)
  options = options or {}
  local now, probes = 100, 0
  local wait = {
    op = op, timeout = options.timeout or 10, spent = options.spent, seen = options.seen or {},
    now = function() return now end, pause = function(seconds) now = now + seconds end,
    stopped = function() return probes == options.stop and "cancelled by a test" or nil end,
    probe = function(_, indexes)
      probes = probes + 1
      local all, some = found[math.min(probes, #found)], {}
      for _, index in ipairs(indexes) do some[index] = all[index] end
      return some
    end,
  }
  local records, problem = waits.follow(wait, options.indexes or { 0 })
  return records, wait.seen, probes, problem
end

local UP <const>, DOWN <const> = { [0] = { up = true } }, { [0] = { up = false, why = "refused" } }
local function boot(id) return { [0] = { up = true, boot = id } } end

t.test("wait_up ends with the first answer, and tells the seconds", function()
  t.eq(follow("wait_up", { UP }), { { i = 0, status = 1, seconds = 0.0 } })
  t.eq(follow("wait_up", { DOWN, DOWN, boot "aa" }),
    { { i = 0, status = 1, seconds = 4.0, boot = "aa" } })
end)

t.test("over its time it fails, with the last reason", function()
  local records, _, probes = follow("wait_up", { DOWN }, { timeout = 5 })
  t.eq({ records[1].status, records[1].timed_out, records[1].seconds, probes }, { 3, true, 5.0, 4 })
  t.eq(records[1].error, "not up within 5 s: refused")
  t.eq(follow("wait_down", { UP })[1].error, "not down within 10 s")
end)

t.test("wait_down: no answer, or another boot than the one last seen", function()
  t.eq(follow("wait_down", { UP, DOWN })[1].seconds, 2.0)
  t.eq(follow("wait_down", { boot "aa", boot "aa", boot "bb" })[1].seconds, 4.0)
  local records, seen = follow("wait_down", { boot "bb" }, { seen = { [0] = "aa" } })
  t.eq({ records, seen[0] }, { { { i = 0, status = 1, seconds = 0.0, boot = "bb" } }, "bb" })
  t.eq(follow("wait_down", { boot "aa" }, { seen = { [0] = "aa" } })[1].status, 3)
end)

t.test("what is not known is neither up nor down", function()
  local unknown = { [0] = { why = "ping: no permission" } }
  t.eq(follow("wait_down", { unknown })[1].error,
    "not known to be down within 10 s: ping: no permission")
  t.eq({ follow("wait_down", { unknown })[1].status, follow("wait_up", { unknown })[1].status },
    { 4, 4 })
  t.eq(follow("wait_down", { unknown, DOWN })[1].status, 1)
  t.eq(follow("wait_up", { { [0] = { problem = "ping: not found" } } }),
    { { i = 0, status = 3, error = "ping: not found" } })
end)

t.test("a wait that goes on lasts what is left of it, and asks once at least", function()
  local records, _, probes = follow("wait_up", { DOWN }, { timeout = 10, spent = 7 })
  t.eq({ records[1].seconds, probes }, { 10.0, 3 })
  records, _, probes = follow("wait_up", { UP }, { timeout = 10, spent = 60 })
  t.eq({ records[1].status, records[1].seconds, probes }, { 1, 60.0, 1 })
end)

t.test("only those that are not done are asked again", function()
  local records, _, probes = follow("wait_up", {
    { [0] = { up = true }, { up = false } }, { [0] = { up = false }, { up = true } },
  }, { indexes = { 0, 1 } })
  t.eq({ #records, records[1].status, records[2].status, probes }, { 2, 1, 1, 2 })
end)

t.test("a stop ends it, and is the reason", function()
  local record = follow("wait_up", { DOWN }, { stop = 2 })[1]
  t.eq({ record.status, record.cancelled, record.error }, { 3, true, "cancelled by a test" })
end)

t.test("what was seen is found again in the answers of a journal", function()
  local seen = {}
  waits.remember(seen, {
    { ask = { n = 1 } }, { ans = 1, records = { { i = 0, boot = "aa" }, { i = 4 } } },
    { ans = 2, records = { { i = 0, boot = "bb" } } }, { ans = 3 }, { event = {} },
  })
  t.eq(seen, { [0] = "bb" })
  waits.remember(seen, { { ans = 4, text = '{"ans":4,"records":[{"boot":"cc","i":1}]}' } })
  t.eq(seen, { [0] = "bb", [1] = "cc" })
end)

t.done()
