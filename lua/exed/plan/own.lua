-- SPDX-License-Identifier: MIT
-- What hosts have of their own in a plan: the values that its command names, and the fields that
-- the executor's per_host gives for each.
--
--   local asks = own.new(filled, config)         nil: all hosts have the same
--   asks:of(host) -> own, or nil, why            for fanout.start; why: the host cannot be run
--   asks:record_or(host) -> own, or nil, record

local check = require "exed.plan.check"
local env = require "exed.plan.env"
local fiber = require "exed.fiber"
local inventory = require "exed.inventory"
local places = require "exed.plan.places"
local timer = require "exed.timer"
local words = require "exed.words"

local own = {}
own.__index = own

local FAILED <const> = 3
local STEP <const> = 16 -- hosts that are asked about in a turn of the loop
local SPENT <const> = "instructions without waiting"
local FIELDS <const> = {
  command = true, argv = true, stdin = true, env = true, cwd = true, timeout = true,
}

function own.new(filled, config)
  if not filled.places and not filled.per_host then return nil end
  return setmetatable({
    filled = filled, ssh = config.ssh, budget = config.runtime.executor_budget, asked = 0,
  }, own)
end

-- The host as per_host gets it: its own copy, without secrets.
local function describe(host, ssh)
  local groups = {}
  for name in pairs(host.groups or {}) do groups[name] = true end
  return {
    name = host.name, address = host.address, port = host.port or ssh.port,
    user = host.user or ssh.user, groups = groups, vars = inventory.vars(host),
  }
end

local function bad(format, ...) return nil, "per_host: " .. format:format(...) end

-- What per_host gave, checked as a plan's fields are.
local function read(self, given)
  for name in pairs(given) do
    if not FIELDS[name] then
      return bad("%s cannot differ between hosts: %s%s", words.show(name),
        table.concat(words.keys(FIELDS), ", "), words.hint(tostring(name), words.keys(FIELDS)))
    end
  end
  local ok, found = pcall(check.fields, given)
  if ok then return found end
  if type(found) == "table" and found.wrong then return bad("%s", found.wrong) end
  error(found, 0)
end

-- The fields that differ for a host, or nil, why. One Lua call.
local function ask(self, host)
  if self.spent then return nil, self.spent end
  self.asked = self.asked + 1
  if self.asked % STEP == 0 then timer.sleep(0) end
  local ok, given, why = fiber.bounded(self.budget, self.filled.per_host,
    describe(host, self.ssh))
  if not ok then
    local text = "per_host: " .. tostring(type(given) == "table" and given.message or given)
    -- The next host would cost as much.
    if text:find(SPENT, 1, true) then self.spent = text end
    return nil, text
  end
  if given == nil then
    if why ~= nil then return nil, tostring(why) end
    return {}
  end
  if type(given) ~= "table" then return bad("a table is wanted, got %s", words.show(given)) end
  return read(self, given)
end

local function combine(self, found)
  local filled = self.filled
  local mine = {
    command = found.command, stdin = found.stdin, cwd = found.cwd, timeout = found.timeout,
    env = found.env and env.merge(filled.env, found.env),
  }
  if mine.command and filled.head then mine.command = filled.head .. mine.command end
  if mine.stdin and filled.content then return bad "stdin cannot differ where files are sent" end
  if not mine.command and filled.no_command then return bad "it gave no command" end
  return mine
end

-- What per_host makes of it, and the places in its command.
local function asked(self, host)
  local found, why = ask(self, host)
  if not found then return nil, why end
  local mine
  mine, why = combine(self, found)
  if not mine then return nil, why end
  if mine.command then return mine, found.places end
  return mine, self.filled.places
end

function own:of(host)
  local mine, list = {}, self.filled.places
  if self.filled.per_host then mine, list = asked(self, host) end
  if not mine or not list then return mine, list end
  local values, why = places.values(list, host, self.ssh)
  mine.values = values
  if not values then return nil, why end
  return mine
end

function own:record_or(host)
  local mine, why = self:of(host)
  return mine, why and { status = FAILED, error = why } or nil
end

return own
