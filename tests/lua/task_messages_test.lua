-- SPDX-License-Identifier: MIT
-- What a task's process says is checked before anything of it is used.

local messages = require "exed.tasks.messages"
local t = require "support"

local HOSTS <const> = 4

local function op(changes, fields)
  local args = { op = "execute", hosts = { 0, 3 }, fields = fields or { command = "true" },
    try = 1 }
  for key, value in pairs(changes or {}) do args[key] = value end
  return { effect = { n = 1, path = "#1", kind = "op", args = args } }
end

local function effect(kind, args, changes)
  local one = { n = 1, path = "#1", kind = kind, args = args }
  for key, value in pairs(changes or {}) do one[key] = value end
  return { effect = one }
end

t.test("what tasks say is taken, and nothing besides", function()
  local message = op { more = "x", step = "drain" }
  message.effect.at = 5
  local found = assert(messages.check(message, HOSTS))
  t.eq(found, { effect = { n = 1, path = "#1", kind = "op", args = {
    op = "execute", hosts = { 0, 3 }, fields = { command = "true" }, try = 1, step = "drain" } } })
  for _, good in ipairs {
    { idle = 0 }, { print = "x" }, { stuck = "x:1" },
    { output = { n = 1, index = -1, stream = "stdout" } },
    { done = { ok = true } }, { done = { ok = false, error = { code = "failed", message = "x" } } },
    op { hosts = { -1 } }, op({ op = "ping" }, {}),
    op({ op = "service" }, { name = "nginx", state = "started" }),
    op(nil,
    { argv = { "a", "b" }, env = { A = "1", B = { secret = "s" } }, stdin = { secret = "s" } }),
    effect("sleep", { seconds = 0.5 }), effect("approval", { message = "x", timeout = 1 }),
    effect("http", { method = "GET", url = "http://a/", headers = { A = "b" } }),
    effect("tally", { host = 3, name = "resets", change = "add", within = 60 }),
    effect("say", { text = "x" }, { note = true }),
    effect("outcome", { hosts = { 1 }, status = "OK" }, { note = true }),
  } do
    local ok, wrong = messages.check(good, HOSTS)
    assert(ok, wrong)
  end
end)

t.test("what is of another type or out of bounds is refused", function()
  local long = ("x"):rep(2 << 20)
  for i, bad in ipairs {
    1, "x", {}, { idle = -1 }, { idle = "1" }, { idle = 1.5 }, { idle = 1, print = "x" },
      { what = 1 },
    { print = 1 }, { print = long }, { done = { ok = 1 } },
    { done = { ok = false, error = { code = 1 } } },
    { output = { n = 0, index = 0, stream = "stdout" } },
    { output = { n = 1, index = 4, stream = "stdout" } },
    { output = { n = 1, index = 0, stream = "x" } }, { effect = 1 },
    effect("tally", { host = -1, name = "resets", change = "add", within = 60 }),
    effect("tally", { host = 4, name = "resets", change = "add", within = 60 }),
    effect("tally", { host = 0, name = "a:b", change = "add", within = 60 }),
    effect("tally", { host = 0, name = "resets", change = "set", within = 60 }),
    effect("tally", { host = 0, name = "resets", change = "add", within = -1 }),
    op { hosts = { 4 } }, op { hosts = { -2 } }, op { hosts = {} }, op { hosts = { 1, 1 } },
    op { hosts = { 1, -1 } }, op { hosts = { "1" } }, op { hosts = { 1.5 } },
    op { hosts = { a = 1 } },
    op { hosts = "x" }, op { op = "Execute;" }, op { op = 1 }, op { op = "ping", hosts = { -1 } },
    op { timeout = -1 }, op { timeout = 0 / 0 }, op { timeout = math.huge }, op { window = 0 },
    op { step = 1 },
    op { step = "a\0b" }, op { changes = 1 }, op(nil, {}), op(nil, { command = "a\0" }),
    op(nil, { command = "a", argv = { "b" } }), op(nil, { argv = {} }), op(nil, { argv = { 1 } }),
    op(nil, { command = long }), op(nil, { command = "a", env = { ["A=B"] = "x" } }),
    op(nil, { command = "a", env = { A = 1 } }), op(nil, { command = "a", stdin = {} }),
    op({ op = "service" }, { name = "-x", state = "started" }),
    op({ op = "service" }, { name = "x", state = "up" }),
    op({ op = "deploy" }, { role = "../x" }), op({ op = "other" }, { x = {} }),
    effect("sleep", { seconds = -1 }), effect("sleep", {}),
    effect("sleep", { seconds = 1 }, { n = 0 }),
    effect("sleep", { seconds = 1 }, { path = 1 }), effect("sleep", "x"),
    effect("outcome", { hosts = { 1 } }),
    effect("say", { text = "x" }), effect("sleep", { seconds = 1 }, { note = true }),
    effect("outcome", { hosts = { 1 }, status = "GOOD" }, { note = true }),
    effect("say", { text = long }, { note = true }),
    effect("say", { text = "x", host = 9 }, { note = true }),
    effect("http", { method = "get", url = "http://a/" }),
    effect("http", { method = "GET", url = "file:///a" }),
    effect("http", { method = "GET", url = "http://a/ b" }),
    effect("http", { method = "GET", url = "http://a/", headers = { A = "b\r\nC: d" } }),
    effect("nothing", {}), effect("__index", {}), effect(nil, {}),
  } do
    local found, wrong = messages.check(bad, HOSTS)
    assert(not found, "number " .. i .. " is taken")
    t.eq(type(wrong), "string")
    assert(not wrong:find "messages.lua", wrong)
  end
end)

t.done()
