-- SPDX-License-Identifier: MIT
-- Environments for the files of users: the language, and nothing that reaches around it. Asking
-- for something that is not there says what to use instead.

local sandbox = {}

local BASE <const> = {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
  "rawlen", "rawset", "select", "tonumber", "tostring", "type", "xpcall", "_VERSION",
}
local LIBRARIES <const> = { "string", "table", "math", "utf8", "coroutine", "os" }

-- Text is shared by all: nobody may change what ("x"):rep means.
local strings = getmetatable ""
if strings then strings.__metatable = false end

-- A copy of a library without what is refused; a read of that raises.
local function copy_library(name, library, refuse, instead)
  local copy = {}
  for key, value in pairs(library) do
    if not instead[name .. "." .. key] then copy[key] = value end
  end
  return setmetatable(copy, {
    __index = function(_, key)
      local full = name .. "." .. tostring(key)
      if instead[full] then refuse(full, instead[full], 3) end
      return nil
    end,
    __metatable = false,
  })
end

local function checked_setmetatable(refuse, no_weak)
  return function(value, meta)
    if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
      refuse("__gc", "use a <close> variable", 3)
    end
    if no_weak and type(meta) == "table" and rawget(meta, "__mode") ~= nil then
      refuse("__mode", "what a weak table still holds differs on a resume", 3)
    end
    return setmetatable(value, meta)
  end
end

-- A new environment. options: kind ("plugins"), require, print, instead (name -> what to use
-- instead), no_weak, globals (name -> value) and library (name -> { key = value }), which replace
-- what Lua has.
function sandbox.new(options)
  local instead = options.instead
  local function refuse(name, text, level)
    error(("%s is not there for %s: %s"):format(name, options.kind, text), level)
  end
  local globals = { require = options.require, print = options.print }
  for _, key in ipairs(BASE) do globals[key] = _G[key] end
  for _, name in ipairs(LIBRARIES) do
    globals[name] = copy_library(name, _G[name] or {}, refuse, instead)
    for key, value in pairs(options.library and options.library[name] or {}) do
      globals[name][key] = value
    end
  end
  for name, value in pairs(options.globals or {}) do globals[name] = value end
  globals.setmetatable = checked_setmetatable(refuse, options.no_weak)
  globals.load = function(chunk, name, _, other)
    return load(chunk, name, "t", other or globals)
  end
  globals._G = globals
  return setmetatable(globals, {
    __index = function(_, key)
      if instead[key] then refuse(key, instead[key], 3) end
      return nil
    end,
    __metatable = false,
  })
end

return sandbox
