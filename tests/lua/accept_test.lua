-- SPDX-License-Identifier: MIT
-- The Accept header chooses by quality, and the most exact range counts.

local accept = require "exed.api.accept"
local t = require "support"

local KINDS <const> = { "application/json", "application/x-ndjson", "text/event-stream" }

t.test("the best quality wins, and ours decides between equals", function()
  for header, want in pairs {
    [""] = 1, ["*/*"] = 1, ["text/html"] = 1, ["application/*"] = 1, ["text/*"] = 3,
    ["text/event-stream"] = 3, ["TEXT/EVENT-STREAM"] = 3, ["text/event-stream;charset=utf-8"] = 3,
    ["application/x-ndjson;q=0.5,text/event-stream"] = 3,
    ["application/x-ndjson , text/event-stream;q=0.9"] = 2,
    ["application/json,application/x-ndjson"] = 1,
    ["application/x-ndjson ; q=0.2 , */*;q=0.1"] = 2,
    ["application/x-ndjson;q=0.001, text/event-stream;q=0.002"] = 3,
  } do
    t.eq(accept.choose(header, KINDS), KINDS[want], header)
  end
  t.eq(accept.choose(nil, KINDS), KINDS[1])
end)

t.test("the most exact range counts, also against a type", function()
  t.eq(accept.choose("application/json;q=0, */*", KINDS), KINDS[2])
  t.eq(accept.choose("application/json;q=0.1, application/*;q=0.9", KINDS), KINDS[2])
  t.eq(accept.choose("*/*, text/*;q=0.1, text/event-stream;q=0", { KINDS[3], KINDS[2] }), KINDS[2])
end)

t.test("what is no range is left aside", function()
  local bad = { ", ,;;q=", "text", "/", "a/b/c", "text/event-stream;q=7",
    "text/event-stream;q=-1", "text/event-stream;q=0.0001", "text/event-stream;q=x",
    ("text/event-stream;q=0,"):rep(100000) }
  for _, header in ipairs(bad) do
    t.eq(accept.choose(header, KINDS), KINDS[1], header:sub(1, 40))
  end
end)

t.done()
