-- SPDX-License-Identifier: MIT
-- Finds the handler of a path. A path of a handler has parts that stand for themselves and parts
-- such as :jid that take any text; those that stand for themselves come first.

local log = require "exed.log"
local words = require "exed.words"

local router = {}
router.__index = router

local function split(path)
  local parts = {}
  for part in path:gmatch "[^/]+" do parts[#parts + 1] = part end
  return parts
end

-- "/jobs/:jid" -> "/jobs/:", by which two handlers of one path are known
local function shape(parts)
  local names = {}
  for i, part in ipairs(parts) do names[i] = part:find "^:" and ":" or part end
  return table.concat(names, "/")
end

local function params_of(route, parts)
  local params = {}
  for i, want in ipairs(route.parts) do
    if want:find "^:" then
      params[want:sub(2)] = parts[i]
    elseif want ~= parts[i] then
      return nil
    end
  end
  return params
end

-- handlers: key -> handler; of two with one path the later key is left out, and logged.
function router.new(handlers)
  local self = setmetatable({ exact = {}, patterns = {} }, router)
  local seen = {}
  for _, key in ipairs(words.keys(handlers)) do
    local handler = handlers[key]
    local parts = split(handler.path)
    local place = handler.dialect .. " " .. shape(parts)
    if seen[place] then
      log.error("api", "handlers %s and %s have one path, the second is left out", seen[place], key)
    elseif handler.path:find(":", 1, true) then
      table.insert(self.patterns, { parts = parts, handler = handler })
    else
      self.exact[handler.dialect .. " " .. table.concat(parts, "/")] = handler
    end
    seen[place] = seen[place] or key
  end
  return self
end

-- The handler of a path in one of the dialects (a list), and its parameters; nil when there is
-- none. A slash at the end is as none.
function router:find(dialects, path)
  local parts = split(path)
  local plain = table.concat(parts, "/")
  for _, dialect in ipairs(dialects) do
    local handler = self.exact[dialect .. " " .. plain]
    if handler then return handler, {} end
    for _, route in ipairs(self.patterns) do
      if route.handler.dialect == dialect and #route.parts == #parts then
        local params = params_of(route, parts)
        if params then return route.handler, params end
      end
    end
  end
  return nil
end

-- What the handler allows, for the header of that name.
function router.allow(handler)
  local names = words.keys(handler.methods)
  if handler.methods.GET then names[#names + 1] = "HEAD" end
  names[#names + 1] = "OPTIONS"
  table.sort(names)
  return table.concat(names, ", ")
end

return router
