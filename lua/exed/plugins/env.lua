-- SPDX-License-Identifier: MIT
-- The environment that a plugin's file runs in: the language, exed's modules, and nothing that
-- reaches around them. Asking for something that is not there says what to use instead.

local log = require "exed.log"

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

local BASE <const> = {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
  "rawlen", "rawset", "select", "tonumber", "tostring", "type", "xpcall", "_VERSION",
}

-- Text is shared by all: nobody may change what ("x"):rep means.
local strings = getmetatable ""
if strings then strings.__metatable = false end

local function refuse(name, instead, level)
  error(("%s is not there for plugins: %s"):format(name, instead), level + 1)
end

-- A copy of a library without what is refused; a read of that raises.
local function copy_library(name, library, only)
  local copy = {}
  for key, value in pairs(library) do
    if not INSTEAD[name .. "." .. key] and (not only or only[key]) then copy[key] = value end
  end
  return setmetatable(copy, {
    __index = function(_, key)
      local full = name .. "." .. tostring(key)
      if INSTEAD[full] then refuse(full, INSTEAD[full], 2) end
      return nil
    end,
    __metatable = false,
  })
end

local function plugin_require(name)
  if type(name) ~= "string" then error("require wants the name of a module", 2) end
  if name ~= "cjson" and not name:find "^exed%.[%w_.]+$" then
    error(("module '%s' is not there for plugins: only those of exed, such as exed.json")
      :format(name), 2)
  end
  return require(name)
end

local function plugin_setmetatable(value, meta)
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
    refuse("__gc", "use a <close> variable", 2)
  end
  return setmetatable(value, meta)
end

local function loader(globals)
  return function(chunk, name, _, other)
    return load(chunk, name, "t", other or globals)
  end
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
  local globals = {
    require = plugin_require, setmetatable = plugin_setmetatable, print = printer(name),
    string = copy_library("string", string), table = copy_library("table", table),
    math = copy_library("math", math), utf8 = copy_library("utf8", utf8),
    coroutine = copy_library("coroutine", coroutine),
    os = copy_library("os", os, { time = true, date = true, clock = true, difftime = true }),
  }
  for _, key in ipairs(BASE) do globals[key] = _G[key] end
  globals.load, globals._G = loader(globals), globals
  return setmetatable(globals, {
    __index = function(_, key)
      if INSTEAD[key] then refuse(key, INSTEAD[key], 2) end
      return nil
    end,
    __metatable = false,
  })
end

return env
