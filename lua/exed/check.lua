-- SPDX-License-Identifier: MIT
-- What `exed -t` checks besides the settings: the inventory, the plugins and the state directory.
-- Says all that is wrong on standard error. Opens no store and listens nowhere.

local ansible = require "exed.ansible"
local config = require "exed.config"
local inventory = require "exed.inventory"
local inventory_holder = require "exed.inventory.holder"
local json = require "exed.json"
local plugins = require "exed.plugins"
local programs = require "exed.inventory.programs"
local settings = require "exed.plan.settings"
local state = require "exed.state"
local sys = require "exed.sys"

local problems = {}

local function problem(text, ...) problems[#problems + 1] = "exed: " .. text:format(...) end

local function warn(text, ...) io.stderr:write("exed: warning: ", text:format(...), "\n") end

-- A file that is not there is no error: exed starts, and takes it as soon as it is.
local function check_inventory()
  local path = config.inventory.path
  if not sys.stat(path) then
    return warn("[inventory] path: there is no %s yet, so there are no hosts", path)
  end
  inventory.use_json(json)
  local holder, err = inventory_holder.open(path, { programs = programs.standard() })
  if err then return problem("[inventory] path: %s", err.message) end
  for _, warning in ipairs(holder.inventory.warnings) do warn("%s", warning) end
  local seen = {}
  for _, host in ipairs(holder.inventory.hosts) do
    if host.key and not seen[host.key] then
      seen[host.key] = true
      if not sys.stat(host.key) then warn("%s: there is no key %s", host.name, host.key) end
    end
  end
end

local function check_plugins()
  local found = plugins.open { config = config }
  for _, kind in ipairs { "executor", "handler" } do
    for _, file in ipairs(found:list(kind)) do
      if file.error then problem("[runner] modules: %s", file.error) end
    end
  end
  for _, name in ipairs(settings.names(config)) do
    local _, err = found:executor(name)
    if not found.executors[name] then problem("[executor %s]: %s", name, err.message) end
  end
  local _, err = found:executor(config.runner.executor)
  if err then problem("[runner] executor: %s", err.message) end
  if config.runner.executor ~= "ansible" then return end
  for _, why in ipairs(ansible.missing()) do warn("[runner] executor: %s", why) end
end

-- exed itself may run as another user than who checks its settings.
local function check_state()
  local ok, err = state.check(config.store.dir)
  if ok then return end
  if err.code == "refused" then return warn("[store] dir: %s", err.message) end
  problem("[store] dir: %s", err.message)
end

check_inventory()
check_plugins()
check_state()
if #problems > 0 then error { code = "invalid", message = table.concat(problems, "\n") } end
