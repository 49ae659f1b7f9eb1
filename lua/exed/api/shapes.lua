-- SPDX-License-Identifier: MIT
-- What the API answers, as JSON schemas (2020-12) by name: handlers name them in `answers`, and the
-- API document has them all. Objects may have more than is said here.

local json = require "exed.json"

local shapes = {}

local TEXT <const> = { type = "string" }
local WHOLE <const> = { type = "integer" }
local NUMBER <const> = { type = "number" }
local YES <const> = { type = "boolean" }
local ANY <const> = {}
local NAMES <const> = { type = "array", items = TEXT }

local function ref(name) return { ["$ref"] = "#/components/schemas/" .. name } end
local function list(of) return { type = "array", items = of } end
local function map(of) return { type = "object", additionalProperties = of } end
local function either(...) return { anyOf = json.array { ... } } end
local function one_of(...) return { enum = json.array { ... } } end

-- A schema with what it means.
local function said(schema, text)
  local copy = { description = text }
  for key, value in pairs(schema) do copy[key] = value end
  return copy
end

-- required: names with blanks between them
local function object(required, properties)
  local names = {}
  for name in required:gmatch "%S+" do names[#names + 1] = name end
  return {
    type = "object", properties = properties, required = #names > 0 and json.array(names) or nil,
  }
end

local JID <const> = { type = "string", format = "uuid" }
local STATE <const> = said(one_of(0, 1, 2), "0 Done, 1 Running, 2 Failure")
local STATUS <const> = said(one_of(-1, 0, 1, 2, 3, 4, 5),
  "0 ANNOUNCE, 1 OK, 2 SKIPED, 3 FAILED, 4 UNREACHABLE, 5 CHANGED, -1 NO MATCH")
local WORD <const> = one_of("OK", "SKIPPED", "FAILED", "UNREACHABLE", "CHANGED")

shapes.Error = object("message", {
  message = TEXT,
  holders = said(map(NAMES), "of a conflict: the jids that hold each host"),
  jid = said(TEXT, "the job that this is about"),
})

shapes.Jid = object("jid", { jid = JID })
shapes.Told = object("jid state", { jid = JID, state = STATE })
shapes.Names = NAMES

shapes.Record = said(object("status", {
  status = STATUS,
  state = said(STATUS, "the same, with [api] state_alias"),
  rtc = said(WHOLE, "exit code; 124 over the time limit, 128 and the signal's number"),
  stdout = TEXT, stderr = TEXT,
  stdout_b64 = said(TEXT, "all bytes, when they are not UTF-8"), stderr_b64 = TEXT,
  stdout_bytes = said(WHOLE, "the full length, when that is more than is kept"),
  stderr_bytes = WHOLE, truncated = YES,
  error = TEXT, started = NUMBER, seconds = NUMBER,
  facts = { type = "object" },
  timed_out = YES, signal = TEXT, cancelled = YES, disabled = YES, output_open = YES,
  unknown = said(YES, "started, and not known how it ended"),
  killed = YES, killed_by = TEXT, survivors = WHOLE, survivors_unknown = WHOLE,
  name = said(TEXT, "of a task's step"),
  return_data = said(ANY, "what a task or deploy says of it"),
}), "What became of one operation on one host.")

shapes.Records = said(map(ref "Record"), "by host")

shapes.Job = object("targets operate operate_args startat state taskid error return_data", {
  targets = NAMES, operate = TEXT, operate_args = { type = "object" },
  startat = said(WHOLE, "seconds since 1970"), endat = WHOLE, state = STATE, taskid = JID,
  error = TEXT, return_data = map(list(ref "Record")),
  parent = said(JID, "the job that this one runs again"),
  phase = one_of("accepting", "running", "paused", "waiting", "stopping"), paused = YES,
  waiting = said(object("message", {
    message = TEXT, by = { type = json.array { "string", "null" } },
    ["until"] = { type = json.array { "number", "null" } },
  }), "the question that a task waits with"),
  counts = said(map(WHOLE), "targets by status, with detail"),
  running = said(list(object("host phase since", {
    host = TEXT, phase = TEXT, since = WHOLE, sent = WHOLE, size = WHOLE,
  })), "hosts that run, oldest first, with detail; of a file that is sent, the bytes so far"),
  value = said(ANY, "what a task returned"),
})
shapes.Jobs = either(list(JID), list(ref "Job"))

shapes.Chunk = said(map(either(ref "Record", object("lines stream offset", {
  lines = TEXT, lines_b64 = TEXT, stream = one_of("stdout", "stderr"), offset = WHOLE,
}))), "of a job that is followed: a record, or lines of output, by host")
shapes.Row = said(either(object("job", { job = ref "Job" }), object("id", {
  id = WHOLE, entry = ref "Chunk",
  ["end"] = object("state error", { state = STATE, error = TEXT }),
})), "a line of a job that is followed as application/x-ndjson")

shapes.Plan = object("state error seconds steps outcomes", {
  state = STATE, error = TEXT, seconds = said(NUMBER, "on a made-up clock"),
  steps = said(list(object("at", {
    at = said(NUMBER, "seconds on that clock: what has the same runs at the same time"),
    host = TEXT, op = TEXT, what = TEXT, step = TEXT, path = TEXT,
    said = said(TEXT, "in place of a step: an announcement"),
  })), "in their order"),
  outcomes = said(map(object("status", { status = WORD, text = TEXT })), "by host"),
  no_match = NAMES, value = ANY, operation = TEXT, executor = TEXT, command = TEXT,
  lock = one_of("none", "shared", "exclusive"), fence = YES, window = WHOLE,
})
shapes.Planned = said(object("plan", { plan = ref "Plan" }), "of a dry run")
shapes.Answered = either(ref "Planned", ref "Records")
shapes.Asked = either(ref "Planned", ref "Told")

shapes.Tasks = list(object("name type", {
  name = TEXT, type = TEXT, path = TEXT, summary = TEXT, error = TEXT,
  loading = YES,
  args = list(object("name type", { name = TEXT, type = TEXT, required = YES, help = TEXT })),
}))

shapes.Nodes = list(object("id this", {
  id = TEXT, version = TEXT, beat = WHOLE, incarnation = WHOLE, slices = WHOLE,
  silent = said(NUMBER, "seconds since its counter moved"), this = YES,
}))

shapes.Hosts = list(object("name connection groups", {
  name = TEXT, address = TEXT, port = WHOLE, user = TEXT, connection = TEXT, groups = NAMES,
  disabled = either(YES, said(TEXT, "why nothing is done to it")),
}))

shapes.Leases = list(object("host mode epoch jids", {
  host = TEXT, mode = one_of("shared", "exclusive"), epoch = either(WHOLE, TEXT), jids = NAMES,
}))

shapes.Health = object("status degraded version node store inventory", {
  status = one_of("ok", "degraded", "away"), degraded = NAMES, version = TEXT,
  node = { type = "object" },
  store = object("state durability", {
    state = one_of("up", "away"), durability = TEXT, error = TEXT,
  }),
  inventory = object("hosts", { hosts = WHOLE, error = TEXT }),
})

shapes.Journal = either(
  object("last entries", {
    last = WHOLE, start = { type = "object" },
    entries = list(object("id", { id = WHOLE })),
  }),
  object("text", { text = TEXT }))

shapes.Document = { type = "object" }

return shapes
