-- SPDX-License-Identifier: MIT
-- The main module of a task's process. The node sends the modules (this one among them), then what
-- to do:
--   { start = {...}, sources = { ["task.NAME"] = { path, text }, ["lib.X"] = ... }, session... }
--   { check = NAME, sources = {...} }   loads a file and answers { described = {...} } or { wrong
--   = text }
--   { judge = NAME, args = {...}, sources = {...} }   loads it too, and answers { judged = true }
--   when its own check has nothing against the args, or { wrong = text }
-- After that it is a session (exed.task.session) until its end. Output that an answer left out is
-- asked for with { output = { n, index, stream } } and comes as { output = text }.

local channel = require "exed.task.channel"
local definition = require "exed.task.definition"
local json = require "exed.json"
local program = require "exed.task.program"
local records = require "exed.task.records"
local same = require "exed.task.same"
local session = require "exed.task.session"

-- Methods of texts, too, are those that show no address.
local texts = {}
for name, fn in pairs(string) do texts[name] = fn end
texts.format = same.format
debug.getmetatable("").__index = texts

-- The coroutines of a task, too, are known when it is asked where it is.
local resume = coroutine.resume
local function back(thread, ...)
  channel.switch(thread)
  return ...
end
local function known_resume(thread, ...)
  if type(thread) == "thread" then channel.switch(thread) end
  return back(coroutine.running(), resume(thread, ...))
end
local function result_of(ok, value, ...)
  if not ok then error(value, 0) end
  return value, ...
end
local function known_wrap(fn)
  local thread = coroutine.create(fn)
  return function(...) return result_of(known_resume(thread, ...)) end
end
rawset(coroutine, "resume", known_resume)
rawset(coroutine, "wrap", known_wrap)

local function send(message) channel.send(json.encode(message)) end

-- What a node takes of a text; it ends a process that sends more.
local MAX_TEXT <const> = 16 << 10

local function cut(text)
  if not text or #text <= MAX_TEXT then return text end
  return text:sub(1, MAX_TEXT) .. "..."
end

-- The node knows the outcomes already: counts will do.
local function shorten(result)
  local hosts, failed = 0, 0
  for _, outcome in ipairs(result.outcomes) do
    hosts = hosts + 1
    if records.is_failed(outcome.status) then failed = failed + 1 end
  end
  local err = result.error
  return {
    ok = result.ok, value = result.value, hosts = hosts, failed = failed,
    error = err and { code = cut(err.code), message = cut(err.message) },
  }
end

local function emit(message)
  -- A node of an older version has not got it; the modules are the job's.
  if message.idle and channel.idle then return channel.idle(message.idle) end
  if message.print then message = { print = cut(message.print) } end
  if message.done then message = { done = shorten(message.done) } end
  send(message)
end

local function receive()
  local message, err = json.decode(channel.receive())
  if not message then error("a message of the node: " .. err.message, 0) end
  return message
end

-- Sources that the node sent; others are asked for, once.
local function new_sources(given)
  return function(name)
    local found = given[name]
    if not found then return nil, "no file of that name" end
    return found[2], found[1]
  end
end

local function load_task(order, name)
  return program.load(new_sources(order.sources), name, program.modules(), function() end)
end

local function check(order)
  local task, problem = load_task(order, order.check)
  if task then send { described = definition.describe(task) } else send { wrong = problem } end
end

local function judge(order)
  local task, problem = load_task(order, order.judge)
  if task then problem = definition.judge(task, order.args) end
  send(problem and { wrong = cut(problem) } or { judged = true })
end

local function run(order)
  local waiting = {} -- messages that came while an output was waited for
  local function output(n, index, stream)
    send { output = { n = n, index = index, stream = stream } }
    while true do
      local message = receive()
      if message.output then return message.output end
      waiting[#waiting + 1] = message
    end
  end
  local s = session.new {
    start = order.start, sources = new_sources(order.sources), emit = emit, output = output,
    switch = channel.switch,
  }
  s:start()
  while not s.ended do s:deliver(table.remove(waiting, 1) or receive()) end
end

return function()
  local order = receive()
  if order.check then return check(order) end
  if order.judge then return judge(order) end
  run(order)
end
