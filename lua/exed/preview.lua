-- SPDX-License-Identifier: MIT
-- A dry run of an operation: what it would do, host by host in its order, and what would become of
-- each if all went well. Nothing is touched. Its form is that of a task's dry run, on whose made-up
-- clock an operation takes a second: what has one `at` runs at the same time.
--
--   local plan = preview.new { operation, args, made, hosts, unknown, window, repeatable, head }
--   plan:step(i) -> { at, host, op, what } | nil, outcome { status, text }     of the i-th host
--   plan:write(out)     the whole as JSON, a piece at a time; waits
--   preview.command(made) -> text

local json = require "exed.json"
local reach = require "exed.reach"
local timer = require "exed.timer"

local preview = {}
preview.__index = preview

local PIECE <const> = 1000 -- hosts between two turns of the loop
local SECONDS <const> = 1 -- that an operation takes
local WORDS <const> = { [2] = "SKIPPED", [4] = "UNREACHABLE" }

-- What is done, in a few words for people.
local function what_of(operation, args)
  if operation == "service" then
    local state = args.start and "started" or not args.restart and "stopped"
      or args.graceful and "reloaded" or "restarted"
    return args.name .. " " .. state
  end
  return args.command or args.role or ""
end

-- The command that does it: on each host, or of Ansible on this node.
function preview.command(made)
  local run = made.ansible
  if not run then return made.shown or made.command end
  if run.mode == "task" then return "ansible-playbook, module " .. run.module end
  local tags = run.tags and " --tags " .. table.concat(run.tags, ",") or ""
  return ("ansible-playbook %s%s"):format(run.playbook, tags)
end

-- The status of a host that does well.
local function good_of(verdict)
  return verdict and (verdict[0] or verdict.default) or "OK"
end

-- made: the executor's plan; hosts: of the inventory, in their order; unknown: names that it has
-- not; window: hosts at once; head: what is known besides, for the answer (a table).
function preview.new(options)
  return setmetatable({
    operation = options.operation, what = what_of(options.operation, options.args),
    made = options.made, hosts = options.hosts, unknown = options.unknown,
    window = options.window, head = options.head or {}, tried = 0, bad = 0,
    good = good_of(options.made.verdict), repeatable = options.made.repeatable,
  }, preview)
end

-- The steps have to be asked for in their order. A host that is not even tried has none.
function preview:step(i)
  local host = self.hosts[i]
  local untried = reach.untried(host, self.repeatable)
  if untried then
    if untried.status ~= 2 then self.bad = self.bad + 1 end
    return nil, { status = WORDS[untried.status], text = untried.error }
  end
  local at = self.tried // self.window * SECONDS
  self.tried = self.tried + 1
  return { at = at, host = host.name, op = self.operation, what = self.what }, {
    status = self.good,
  }
end

-- How it would end, when all steps were asked for: state (0 or 2), error, seconds.
function preview:ending()
  local wrong = self.bad + #self.unknown
  return {
    state = wrong == 0 and 0 or 2,
    seconds = (self.tried + self.window - 1) // self.window * SECONDS,
    error = wrong == 0 and "" or ("%d of %d targets would not return without error"):format(wrong,
      #self.hosts + #self.unknown),
  }
end

-- A JSON object without its braces, and a comma when it is not empty.
local function inside(value)
  local text = json.encode(value):sub(2, -2)
  return text == "" and "" or "," .. text
end

local function write_outcomes(out, outcomes)
  for i, one in ipairs(outcomes) do
    out:write(i > 1 and "," or "", json.encode(one[1]), ":", json.encode(one[2]))
    if i % PIECE == 0 then timer.sleep(0) end
  end
end

function preview:write(out)
  local outcomes, comma = {}, ""
  out:write '{"plan":{"steps":['
  for i, host in ipairs(self.hosts) do
    local step, outcome = self:step(i)
    if step then
      out:write(comma, json.encode(step))
      comma = ","
    end
    outcomes[i] = { host.name, outcome }
    if i % PIECE == 0 then timer.sleep(0) end
  end
  out:write '],"outcomes":{'
  write_outcomes(out, outcomes)
  out:write("}", inside(self:ending()), inside(self.head))
  if #self.unknown > 0 then
    out:write(',"no_match":', json.encode(json.array(self.unknown)))
  end
  out:write "}}"
  return true
end

return preview
