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

-- setting: "SECTION.KEY", whose place in the file goes before the text; or nil.
local function say(setting, text, ...)
  local section, key = (setting or ""):match "^(.*)%.(.*)$"
  return (section and config.where(section, key) .. ": " or "") .. text:format(...)
end

local function problem(...) problems[#problems + 1] = "exed: " .. say(...) end

local function warn(...) io.stderr:write("exed: warning: ", say(...), "\n") end

-- A file that is not there is no error: exed starts, and takes it as soon as it is.
local function check_inventory()
  local path = config.inventory.path
  if not sys.stat(path) then
    return warn("inventory.path", "there is no %s yet, so there are no hosts", path)
  end
  inventory.use_json(json)
  local holder, err = inventory_holder.open(path, { programs = programs.standard() })
  if err then return problem("inventory.path", "%s", err.message) end
  for _, warning in ipairs(holder.inventory.warnings) do warn(nil, "%s", warning) end
  local seen = {}
  for _, host in ipairs(holder.inventory.hosts) do
    if host.key and not seen[host.key] then
      seen[host.key] = true
      if not sys.stat(host.key) then warn(nil, "%s: there is no key %s", host.name, host.key) end
    end
  end
end

local function check_plugins()
  local found = plugins.open { config = config }
  for _, kind in ipairs { "executor", "handler" } do
    for _, file in ipairs(found:list(kind)) do
      if file.error then problem("runner.modules", "%s", file.error) end
    end
  end
  for _, name in ipairs(settings.names(config)) do
    local _, err = found:executor(name)
    if not found.executors[name] then problem(nil, "[executor %s]: %s", name, err.message) end
  end
  local _, err = found:executor(config.runner.executor)
  if err then problem("runner.executor", "%s", err.message) end
  if config.runner.executor ~= "ansible" then return end
  for _, why in ipairs(ansible.missing()) do warn("runner.executor", "%s", why) end
  local overruled = ansible.overruled()
  if overruled then warn(nil, "%s", overruled) end
end

-- exed itself may run as another user than who checks its settings.
local function check_state()
  local ok, err = state.check(config.store.dir)
  if ok then return end
  if err.code == "refused" then return warn("store.dir", "%s", err.message) end
  problem("store.dir", "%s", err.message)
end

-- The program that the private store runs, looked for as a shell would.
local function check_redis()
  local name = config.store.redis_server
  if config.runner.redis_url ~= "embedded" then return end
  if name:find("/", 1, true) then
    if not sys.stat(name) then problem("store.redis_server", "there is no program %s", name) end
    return
  end
  for dir in (os.getenv "PATH" or "/usr/bin:/bin"):gmatch "[^:]+" do
    if sys.stat(dir .. "/" .. name) then return end
  end
  problem("store.redis_server", "%s is not in PATH: install it, or set redis_url in [runner] to a "
    .. "redis that runs elsewhere", name)
end

-- A directory that is not there yet is as good as an empty one; a file in its place is a mistake.
local function check_directories()
  for _, setting in ipairs { "runner.modules", "ssh.roles", "tasks.secrets" } do
    local section, key = setting:match "^(.*)%.(.*)$"
    local dir = config[section][key]
    local stat = dir and sys.stat(dir)
    if stat and stat.type ~= "directory" then problem(setting, "%s is no directory", dir) end
  end
  local dir = config.tasks.secrets
  if dir and not sys.stat(dir) then warn("tasks.secrets", "there is no %s yet", dir) end
end

check_inventory()
check_plugins()
check_state()
check_redis()
check_directories()
if #problems > 0 then error { code = "invalid", message = table.concat(problems, "\n") } end
