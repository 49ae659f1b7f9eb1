-- SPDX-License-Identifier: MIT
-- Asks an executor for a plan as the node does, for tests: nothing is run, and no host is needed.
--
--   rehearse.plan(path, name, request) -> plan | nil, message
--     path: of the executor's file; request: op, args, timeout, window, hosts { count, groups },
--     settings (by name, as the configuration would give them). plan: what the executor returned,
--     when it is one that exed takes. Raises when the file does not load.

local config = require "exed.config"
local plan = require "exed.plan"
local plugins = require "exed.plugins"
local words = require "exed.words"

local rehearse = {}

local FIELDS <const> = {
  op = true, args = true, timeout = true, window = true, hosts = true, settings = true,
}

-- Settings as the texts of a configuration.
local function texts_of(settings)
  local texts = {}
  for name, value in pairs(settings or {}) do
    if type(value) == "table" then value = table.concat(value, ",") end
    texts[name] = tostring(value)
  end
  return texts
end

-- So many hosts, the first of which are in the groups.
local function hosts_of(given)
  local hosts = {}
  for i = 1, given.count or 1 do hosts[i] = { groups = {} } end
  for group, count in pairs(given.groups or {}) do
    for i = 1, math.min(count, #hosts) do hosts[i].groups[group] = true end
  end
  return hosts
end

local function check(request)
  for name in pairs(request) do
    if not FIELDS[name] then
      error(("unknown field %s%s"):format(words.show(name),
        words.hint(tostring(name), words.keys(FIELDS))), 4)
    end
  end
end

function rehearse.plan(path, name, request)
  check(request)
  local executor, wrong = plugins.load(path, "executor", name)
  if not executor then error(wrong, 0) end
  local answered
  local operation = executor.operations[request.op]
  local operations = { [request.op] = operation and function(...)
    local made, why = operation(...)
    answered = made
    return made, why
  end }
  local node = {
    runner = {}, config = {
      runtime = config.runtime, runner = config.runner, ssh = config.ssh, store = config.store,
      ["executor " .. name] = texts_of(request.settings),
    },
    plugins = { executors = { [name] = {
      declared = executor.declared, check = executor.check, operations = operations,
    } } },
  }
  local hosts = hosts_of(request.hosts or {})
  local made, err = plan.ask(node, {
    operation = request.op, args = request.args or {}, executor = name, count = #hosts,
    timeout = request.timeout, window = request.window,
  }, hosts)
  if not made then return nil, err.message end
  return answered
end

return rehearse
