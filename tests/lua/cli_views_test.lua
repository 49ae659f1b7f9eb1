-- SPDX-License-Identifier: MIT
-- Tests of exed.cli.views and exed.cli.report: what is shown of records.

local t = require "support"
local json = require "exed.json"
local report = require "exed.cli.report"
local text = require "exed.text"
local views = require "exed.cli.views"

local HOSTS <const> = {}
for i = 1, 12 do HOSTS[i] = { name = ("web%02d"):format(i), address = "10.0.0." .. i } end

-- Stands for an output: what was put, by stream.
local function new_out()
  local out = { [1] = {}, [2] = {} }
  function out:put(bytes) table.insert(self[1], bytes) end
  function out:complain(bytes) table.insert(self[2], bytes) end
  function out:note(format, ...) table.insert(self[2], "note: " .. format:format(...) .. "\n") end
  function out:text(stream) return table.concat(self[stream]) end
  return out
end

local function ok(stdout) return { status = 5, rtc = 0, stdout = stdout, stderr = "" } end

local function folded(options)
  local out = new_out()
  options = options or {}
  return views.folded(out, HOSTS, { cap = 100, total = options.total or 1 << 20,
    say = options.say }), out
end

t.test("identical outputs are one group, most hosts first, failures last", function()
  local view, out = folded()
  for i = 1, 12 do
    if i == 5 then
      view:record(i, { status = 3, rtc = 2, stdout = "same\n", stderr = "" })
    elseif i == 7 then
      view:record(i, ok "other")
    else
      view:record(i, ok "same\n")
    end
  end
  view:finish()
  t.eq(out:text(1), "== web[01-04,06,08-12] (10 hosts)\nsame\n== web07 (1 host)\nother\n"
    .. "== web05 (1 host)\nsame\n")
  t.eq(out:text(2), "note: web05 (1 host): failed: exit code 2\n")
end)

t.test("stdout, stderr and their border make a difference", function()
  local view, out = folded()
  view:record(1, { status = 5, rtc = 0, stdout = "ab", stderr = "" })
  view:record(2, { status = 5, rtc = 0, stdout = "a", stderr = "b" })
  view:finish()
  t.eq(out:text(1), "== web01 (1 host)\nab\n== web02 (1 host)\na\n")
  t.eq(out:text(2), "web02: b\n")
end)

t.test("parts are put together, and are equal to the same output in one piece", function()
  local view, out = folded()
  view:part(1, { stream = 1, data = "one\n" })
  view:part(2, { stream = 1, data = "on" })
  view:part(2, { stream = 1, data = "e\ntwo\n" })
  view:part(1, { stream = 1, data = "two\n" })
  view:record(1, { status = 5, rtc = 0, stderr = "" })
  view:record(2, { status = 5, rtc = 0, stderr = "" })
  view:record(3, ok "one\ntwo\n")
  view:finish()
  t.eq(out:text(1), "== web[01-03] (3 hosts)\none\ntwo\n")
  t.eq(next(view.held.parts), nil)
  t.eq(view.held.room, 1 << 19)
end)

t.test("parts that wait are bounded: a stream is cut where it is", function()
  local view, out = folded { total = 2000 }
  view:part(1, { stream = 1, data = ("a"):rep(600) })
  view:part(2, { stream = 1, data = ("b"):rep(600) })
  view:part(1, { stream = 1, data = ("a"):rep(300) })
  view:part(2, { stream = 1, data = "late" })
  view:record(2, { status = 5, rtc = 0, stderr = "" })
  view:record(1, { status = 5, rtc = 0, stderr = "" })
  t.eq(view.held, { room = 1000, parts = {}, cut = {} })
  view:finish()
  t.eq(out:text(1), "== web01 (1 host)\n" .. ("a"):rep(900) .. "\n== web02 (1 host)\n")
  t.eq(out:text(2), "note: web02: the output was cut\n")
end)

t.test("outputs over the bound keep their beginning and say so", function()
  local view, out = folded { total = 12000 }
  view:record(1, ok(("a"):rep(5000)))
  view:record(2, ok(("b"):rep(5000)))
  view:record(3, ok(("a"):rep(5000)))
  view:finish()
  t.eq(out:text(1), "== web[01,03] (2 hosts)\n" .. ("a"):rep(5000) .. "\n== web02 (1 host)\n"
    .. ("b"):rep(4096) .. "\n")
  t.eq(out:text(2), "note: web02: the output was cut\n")
end)

t.test("equal troubles stand together although addresses differ", function()
  local view, out = folded()
  for i = 1, 3 do
    view:record(i, { status = 4, error = ("connection refused (10.0.0.%d:22)"):format(i) })
  end
  view:finish()
  t.eq(out:text(1), "")
  t.eq(out:text(2), "note: web[01-03] (3 hosts): unreachable: connection refused\n")
  t.eq(report.common("x (fe80::1:22) [1]", { address = "10.0.0.1" }), "x (fe80::1:22) [1]")
  t.eq(report.common("refused ([fe80::1]:22)", { address = "fe80::1" }), "refused")
end)

t.test("what a verb says of good hosts is folded too", function()
  local view, out = folded { say = function(record) return report.word(record.status) end }
  view:record(1, { status = 1 })
  view:record(2, { status = 5 })
  view:record(3, { status = 1 })
  view:finish()
  t.eq(out:text(1), "== web[01,03] (2 hosts)\nok\n== web02 (1 host)\nchanged\n")
end)

t.test("live lines have their host, and wait for their newline", function()
  local out = new_out()
  local view = views.live(out, HOSTS, {})
  view:part(1, { stream = 1, data = "a\nb" })
  t.eq(out:text(1), "web01: a\n")
  view:part(2, { stream = 1, data = "x\n" })
  view:part(1, { stream = 2, data = "e" })
  view:part(1, { stream = 1, data = "c\n\nd" })
  view:record(1, { status = 5, rtc = 0 })
  t.eq(out:text(1), "web01: a\nweb02: x\nweb01: bc\nweb01: \nweb01: d\n")
  t.eq(out:text(2), "web01: e\n")
  t.eq(next(view.tails), nil)
end)

t.test("a line that does not end is broken, not kept", function()
  local out = new_out()
  local view = views.live(out, HOSTS, {})
  for _ = 1, 40 do view:part(1, { stream = 1, data = ("x"):rep(10000) }) end
  t.eq(#(view.tails[3] or "") <= 65536, true)
  view:record(1, { status = 5, rtc = 0 })
  t.eq((out:text(1):gsub("web01: ", ""):gsub("\n", "")), ("x"):rep(400000))
end)

t.test("without a prefix bytes are as they came", function()
  local out = new_out()
  local view = views.live(out, HOSTS, { prefix = false })
  view:part(1, { stream = 1, data = "a\nb" })
  view:record(1, { status = 5, rtc = 0, stdout_b64 = text.base64 "\xff\0", stdout = "\u{fffd}" })
  t.eq(out:text(1), "a\nb\xff\0")
end)

t.test("JSON has the host first and streams in parts whole", function()
  local out = new_out()
  local view = views.json(out, HOSTS, { cap = 100, total = 20 })
  view:part(1, { stream = 1, data = "a\xe2\x82" })
  view:part(1, { stream = 1, data = "\xac\xff" })
  view:record(1, {}, { data = '{"status":5,"stderr":""}', parts = 5 })
  local row = json.decode(out:text(1))
  t.eq(row, { host = "web01", status = 5, stderr = "", stdout = "a\u{20ac}\u{fffd}",
    stdout_b64 = text.base64 "a\u{20ac}\xff" })
  t.eq(out:text(1):sub(1, 15), '{"host":"web01"')
  view:part(2, { stream = 1, data = "12345" })
  view:part(2, { stream = 1, data = "123456" })
  view:record(2, {}, { data = '{"status":5,"stderr":""}', parts = 1 })
  row = json.decode(out[1][2])
  t.eq({ row.stdout, row.truncated }, { "12345", true })
end)

t.test("reasons say what a person wants to know", function()
  for want, record in pairs {
    ["failed: exit code 3"] = { status = 3, rtc = 3 },
    ["failed: ended by signal KILL"] = { status = 3, rtc = 137, signal = "KILL" },
    ["failed: killed at its time limit"] = { status = 3, timed_out = true, killed = true,
      survivors = 0 },
    ["failed: killed; 2 processes of it are left"] = { status = 3, cancelled = true, killed = true,
      survivors = 2 },
    ["failed: killed; what is left of it is not known"] = { status = 3, cancelled = true,
      killed = true },
    ["failed: cancelled; whether it was killed is not known"] = { status = 3, cancelled = true,
      killed = false },
    ["failed: over its time limit; whether it was killed is not known"] = { status = 3,
      timed_out = true, rtc = 124, killed = false },
    ["failed: not known how it ended: connection lost"] = { status = 3, unknown = true,
      error = "connection lost" },
    ["unreachable: no route"] = { status = 4, error = "no route" },
    ["skipped"] = { status = 2 },
  } do
    t.eq(report.line(record), want)
  end
end)

t.test("the summary counts by what became of hosts", function()
  local records = { { status = 5 }, { status = 1 }, { status = 3 }, { status = 4 }, { status = 2 } }
  t.eq(report.summary(records, 1.25, false),
    "5 hosts: 1 ok, 1 changed, 1 failed, 1 unreachable, 1 skipped in 1.2 s")
  t.eq(report.summary({ { status = 5 }, { status = 5 } }, 0, true), "2 hosts: 2 ok in 0.0 s")
end)

t.test("an interrupt's report has every host once", function()
  local lines = report.interrupted(HOSTS, {
    ok "", { status = 3, cancelled = true, killed = true, survivors = 0 },
    { status = 2, error = report.INTERRUPTED }, { status = 4, error = "x" },
    { status = 3, cancelled = true, killed = false },
  })
  t.eq(lines, {
    "interrupted: 2 had finished, 1 were killed, 1 never started",
    "  finished: web[01,04]", "  killed: web02", "  never started: web03",
    "  not known, they did not answer: web[05-12]",
  })
end)

t.done()
