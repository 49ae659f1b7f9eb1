-- SPDX-License-Identifier: MIT
-- The hosts that run a job now, on all nodes. Who wants to know asks all nodes by one message, and
-- each answers with one: nothing is kept anywhere, and it costs nothing while nobody asks.
--
--   local asking = asking.new(node)            node: ear, store, runner
--   asking:running(jid) -> list, whole         waits; { { index, phase, seconds, sent, size } }
--   asking:answer(message)                     what came on exed:ask
--   asking:take(message)                       what came on exed:told:EAR (this process alone)

local fiber = require "exed.fiber"
local json = require "exed.json"
local log = require "exed.log"
local timer = require "exed.timer"

local asking = {}
asking.__index = asking

-- Seconds in which another node has to answer: a client waits for it.
local LIMIT <const> = 1
-- Hosts that a node tells of, the oldest of them.
local MOST <const> = 1000

function asking.new(node) return setmetatable({ node = node, asked = {}, last = 0 }, asking) end

local function own(self, jid)
  local list, told = self.node.runner:running(jid), {}
  for i = 1, math.min(#list, MOST) do
    local one = list[i]
    told[i] = json.array { one.index, one.phase, one.seconds, one.sent, one.size }
  end
  return json.array(told)
end

-- Another node's question: "EAR NUMBER JID". Our own one is answered without a message.
function asking:answer(message)
  local ear, number, jid = message:match "^(%S+) (%d+) (%S+)$"
  if not ear then return end
  local question = ear == self.node.ear and self.asked[tonumber(number)]
  if question then
    question:told()
    return
  end
  local ok, err = self.node.store:call("tell", ear, number .. " " .. json.encode(own(self, jid)))
  if not ok then log.debug("node", "jid=%s who asked is not told: %s", jid, err.message) end
end

-- An answer to ours: "NUMBER LIST". One that comes too late is not looked at.
function asking:take(message)
  local number, text = message:match "^(%d+) (.*)$"
  local question = self.asked[tonumber(number)]
  if question then question:told(json.decode(text)) end
end

local function new_question()
  local question = { answers = 0, rows = {}, event = fiber.event() }
  function question:told(rows)
    self.answers = self.answers + 1
    for _, row in ipairs(rows or {}) do
      self.rows[#self.rows + 1] = {
        index = row[1], phase = row[2], seconds = row[3], sent = row[4], size = row[5],
      }
    end
    self.event:notify()
  end
  return question
end

-- The hosts of a job that run now, oldest first, and whether all nodes have told theirs.
function asking:running(jid)
  local question, deadline = new_question(), timer.now() + LIMIT
  self.last = self.last + 1
  local number = self.last
  self.asked[number] = question
  local _ <close> = setmetatable({}, { __close = function() self.asked[number] = nil end })
  local asked = self.node.store:call("ask", self.node.ear, number, jid)
  while asked and question.answers < asked and timer.now() < deadline do
    question.event:wait(deadline - timer.now())
  end
  local list = question.rows
  for _, one in ipairs(self.node.runner:running(jid)) do list[#list + 1] = one end
  table.sort(list, function(a, b) return a.seconds > b.seconds end)
  return list, asked ~= nil and question.answers >= asked
end

return asking
