-- SPDX-License-Identifier: MIT
-- Operations that a task asks for, done by a fan-out of their own on all of their hosts. What asks
-- the same of one host after another goes by exed.tasks.streams.

local direct = require "exed.tasks.direct"
local enclosures = require "exed.tasks.enclosures"
local outputs = require "exed.tasks.outputs"
local plan = require "exed.plan"
local request = require "exed.tasks.request"
local sending = require "exed.sending"
local targets = require "exed.targets"

local ops = {}

local MARKS <const> = 2000 -- hosts whose bits are asked for in one call

-- The bits of these targets for an effect: a text with a character each, or nil, err.
local function read_marks(self, n, indexes)
  local pages, marks = {}, {}
  for i, index in ipairs(indexes) do
    local page = index // MARKS
    if not pages[page] then
      local to = math.min((page + 1) * MARKS, self.slice.to)
      local answer, err = self.node.store:insist("marks", self.slice.jid, self.slice.k, n,
        page * MARKS, to)
      if not answer then return nil, err end
      pages[page] = answer[3]
    end
    local at = index - page * MARKS + 1
    marks[i] = pages[page]:sub(at, at)
  end
  return table.concat(marks)
end

-- The plan for one effect: as for an operation of its own, but under its number. Returns it,
-- whether it may be repeated, and what it sends; or nil and why not.
function ops.plan(self, effect)
  local node = self.node
  local args, hidden = self.secrets:reveal(effect.args)
  if not args then return nil, hidden end
  local wrong
  args, wrong = enclosures.prepare(args, self.enclosed)
  if not args then return nil, wrong end
  local asked = request.of(args, self.executor)
  local hosts = {}
  for _, index in ipairs(args.hosts) do
    hosts[#hosts + 1] = node.holder.inventory.by_name[self.names[index + 1]]
  end
  local made, err = plan.ask(node, asked, hosts)
  if not made then return nil, err.message end
  local repeatable = args.repeatable or made.repeatable or false
  asked.fence = not repeatable
  local filled = plan.fill(node, {
    jid = self.slice.jid, request = asked, slices = 1, total = #args.hosts,
  }, { k = 0 }, made)
  filled.op = ("%s.%d"):format(self.slice.jid, effect.n)
  request.apply(filled, args)
  local sent
  sent, err = sending.attach(filled, made, true)
  if not sent then return nil, err.message end
  made, wrong = enclosures.check(args, sent, self.enclosed)
  if not made then return nil, wrong end
  filled.hidden = #hidden > 0 and hidden or nil
  return filled, repeatable, sent
end

-- Does it on its hosts; waits. self: exed.tasks.effects. Returns the answer, or nil, err.
function ops.run(self, effect, settle)
  local indexes, marks = effect.args.hosts, nil
  local filled, repeatable, sent = ops.plan(self, effect)
  if not filled then return direct.failed("failed", repeatable) end
  local names = {}
  for i, index in ipairs(indexes) do names[i] = self.names[index + 1] end
  if settle then
    local err
    marks, err = read_marks(self, effect.n, indexes)
    if not marks then return nil, err end
  end
  local work = {
    jid = self.slice.jid, k = self.slice.k, epoch = self.slice.epoch, effect = effect.n,
    names = names, indexes = indexes, marks = marks, stop = effect.stop,
    name = effect.args.step or effect.args.op, paused = self.paused and not effect.cleanup,
  }
  effect.work = work
  local ok, err = targets.run(self.node, work, filled, repeatable)
  if not ok then return nil, err end
  local list
  list, err = outputs.records(self.node, self.slice.jid, effect.n, indexes)
  if not list then return nil, err end
  sending.note(list, sent)
  return { records = list }
end

return ops
