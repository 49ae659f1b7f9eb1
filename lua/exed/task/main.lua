-- SPDX-License-Identifier: MIT
-- The main module of a task's process. The node sends the modules (this one among them), then what
-- to do:
--   { start = {...}, sources = { ["task.NAME"] = { path, text }, ["lib.X"] = ... }, session... }
--   { check = NAME, sources = {...} }   loads a file and answers { described = {...} } or { wrong
--   = text }
-- After that it is a session (exed.task.session) until its end. Output that an answer left out is
-- asked for with { output = { n, index, stream } } and comes as { output = text }.

local channel = require "exed.task.channel"
local definition = require "exed.task.definition"
local json = require "exed.json"
local program = require "exed.task.program"
local same = require "exed.task.same"
local session = require "exed.task.session"

-- Methods of texts, too, are those that show no address.
local texts = {}
for name, fn in pairs(string) do texts[name] = fn end
texts.format = same.format
debug.getmetatable("").__index = texts

local function send(message) channel.send(json.encode(message)) end

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

local function check(order)
  local task, problem = program.load(new_sources(order.sources), order.check, program.modules(),
    function() end)
  if task then send { described = definition.describe(task) } else send { wrong = problem } end
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
    start = order.start, sources = new_sources(order.sources), emit = send, output = output,
    switch = channel.switch,
  }
  s:start()
  while not s.ended do s:deliver(table.remove(waiting, 1) or receive()) end
end

return function()
  local order = receive()
  if order.check then check(order) else run(order) end
end
