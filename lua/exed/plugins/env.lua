-- SPDX-License-Identifier: MIT
-- The environment that an executor's or a handler's file runs in: the language and exed's modules.

local log = require "exed.log"
local sandbox = require "exed.sandbox"

local env = {}

local INSTEAD <const> = {
  io = "plugins have no files; what a request or task needs comes in its arguments",
  debug = "it is not there for plugins",
  package = "use require with the name of a module of exed",
  dofile = "use require with the name of a module of exed",
  loadfile = "use require with the name of a module of exed",
  collectgarbage = "the node's memory is not a plugin's to manage",
  ["os.execute"] = "use exed.proc",
  ["os.exit"] = "return from the function, or raise an error",
  ["os.getenv"] = "settings are in exed.config",
  ["os.remove"] = "plugins have no files",
  ["os.rename"] = "plugins have no files",
  ["os.tmpname"] = "plugins have no files",
  ["os.setlocale"] = "the locale belongs to the whole node",
  ["string.dump"] = "bytecode is not loaded anyway",
}

local function plugin_require(name)
  if type(name) ~= "string" then error("require wants the name of a module", 2) end
  if name ~= "cjson" and not name:find "^exed%.[%w_.]+$" then
    error(("module '%s' is not there for plugins: only those of exed, such as exed.json")
      :format(name), 2)
  end
  return require(name)
end

local function printer(name)
  return function(...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = tostring(parts[i]) end
    log.info("plugin", "%s: %s", name, table.concat(parts, "\t"))
  end
end

-- A new environment for the plugin of that name.
function env.new(name)
  return sandbox.new {
    kind = "plugins", instead = INSTEAD, require = plugin_require, print = printer(name),
  }
end

return env
