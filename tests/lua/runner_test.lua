-- SPDX-License-Identifier: MIT
-- A slice whose run raises an error is handed back, and its job fails when it goes on doing so.

local fiber = require "exed.fiber"
local json = require "exed.json"
local runner = require "exed.runner"
local t = require "support"
local timer = require "exed.timer"

local JID <const> = "0b1e2d3c-0000-4000-8000-000000000001"

-- A node with one slice, whose executor raises `failures` times. Notes what the store is told.
local function fake_node(failures)
  local node = { told = {} }
  local function tell(name, ...) node.told[#node.told + 1] = { name, ... } end
  local function execute()
    failures = failures - 1
    if failures >= 0 then error "no plan today" end
    return nil, "no plan at all"
  end
  node.store = {
    insist = function(_, name, ...)
      if name == "get" then
        local request = json.encode {
          operation = "execute", executor = "odd", args = { command = "true" }, count = 1,
        }
        return { "request", request, "slices", "1", "targets", "1" }
      end
      tell(name, ...)
      return true
    end,
    targets = function() return { "web01" } end,
    marks = function() return "0" end,
    finish = function(_, slice, result, text)
      tell("finish", slice.jid, result, text)
      return true
    end,
  }
  node.plugins = { executors = { odd = { operations = { execute = execute } } } }
  node.config = require "exed.config"
  node.holder = { inventory = { by_name = {}, hosts = {} } }
  return node
end

local function run_once(self, epoch)
  self:start { jid = JID, k = 0, epoch = epoch, from = 0, to = 1, deaths = 0 }
  local deadline = timer.now() + 10
  repeat timer.sleep(0.001) until self.count == 0 or timer.now() > deadline
end

t.test("a slice that raised is handed back, and fails the third time", function()
  local node = fake_node(3)
  local self = runner.new(node)
  node.runner = self
  for epoch = 1, 3 do run_once(self, epoch) end
  t.eq({ node.told[1][1], node.told[1][4], node.told[2][1], node.told[2][4] },
    { "hand_back", 1, "hand_back", 2 })
  t.eq(node.told[3][1], "finish")
  t.has(node.told[3][4], "no plan today")
  t.eq(node.told[3][4]:find "\n", nil)
  t.eq(#node.told, 3)
  t.eq({ next(self.slices), next(self.raised) }, {})
end)

t.test("one that raised once and then fails as foreseen fails at once", function()
  local node = fake_node(1)
  local self = runner.new(node)
  node.runner = self
  run_once(self, 1)
  run_once(self, 2)
  t.eq({ node.told[1][1], node.told[2][1] }, { "hand_back", "finish" })
  t.has(node.told[2][4], "no plan at all")
  t.eq(next(self.raised), nil)
end)

t.test("nothing is left running", function()
  local fibers, waits = fiber.count()
  t.eq({ fibers, waits }, { 1, 0 })
end)

t.done()
