-- SPDX-License-Identifier: MIT
-- Finds the handler of a path. A path of a handler has parts that stand for themselves and parts
-- such as :jid that take any text; those that stand for themselves come first.

local log = require "exed.log"
local words = require "exed.words"

local router = {}
router.__index = router

-- A plain search is a tenth of what a pattern costs, and this is done for each request.
local function split(path)
  local parts, from, size = {}, 1, #path
  while from <= size do
    local slash = path:find("/", from, true) or size + 1
    if slash > from then parts[#parts + 1] = path:sub(from, slash - 1) end
    from = slash + 1
  end
  return parts
end

-- "/jobs/:jid" -> "/jobs/:", by which two handlers of one path are known
local function shape(parts)
  local names = {}
  for i, part in ipairs(parts) do names[i] = part:find "^:" and ":" or part end
  return table.concat(names, "/")
end

-- A route with parameters: `fixed` are the parts that stand for themselves, `named` the others'
-- names, both by their place.
local function new_route(handler, parts)
  local route = { handler = handler, size = #parts, fixed = {}, named = {} }
  for i, part in ipairs(parts) do
    if part:find "^:" then route.named[i] = part:sub(2) else route.fixed[i] = part end
  end
  return route
end

local function params_of(route, parts)
  for i, want in pairs(route.fixed) do
    if want ~= parts[i] then return nil end
  end
  local params = {}
  for i, name in pairs(route.named) do params[name] = parts[i] end
  return params
end

-- Those of two parts of which the second is named are found by the first, too.
local function add_route(self, dialect, route)
  table.insert(self.patterns[dialect], route)
  if route.size == 2 and route.fixed[1] and route.named[2] then
    self.pairs[dialect] = self.pairs[dialect] or {}
    self.pairs[dialect][route.fixed[1]] = route
  end
end

-- handlers: key -> handler; of two with one path the later key is left out, and logged.
function router.new(handlers)
  local self = setmetatable({ exact = {}, patterns = {}, pairs = {} }, router) -- all by dialect
  local seen = {}
  for _, key in ipairs(words.keys(handlers)) do
    local handler = handlers[key]
    local parts = split(handler.path)
    local dialect = handler.dialect
    local place = dialect .. " " .. shape(parts)
    self.exact[dialect], self.patterns[dialect] = self.exact[dialect] or {},
      self.patterns[dialect] or {}
    if seen[place] then
      log.error("api", "handlers %s and %s have one path, the second is left out", seen[place], key)
    elseif handler.path:find(":", 1, true) then
      add_route(self, dialect, new_route(handler, parts))
    else
      self.exact[dialect]["/" .. table.concat(parts, "/")] = handler
    end
    seen[place] = seen[place] or key
  end
  return self
end

-- "/jobs/JID", as most are, has its parts found without a list of them.
local function two_parts(path)
  local slash = path:find("/", 2, true)
  if not slash or slash == 2 or slash == #path then return nil end
  if path:find("/", slash + 1, true) then return nil end
  return path:sub(2, slash - 1), path:sub(slash + 1)
end

-- The handler of a path in one of the dialects (a list), and its parameters; nil when there is
-- none. A slash at the end is as none.
function router:find(dialects, path)
  local parts, plain
  for _, dialect in ipairs(dialects) do
    local exact = self.exact[dialect]
    local handler = exact and exact[path]
    if handler then return handler, {} end
    local first, second = two_parts(path)
    local pair = first and self.pairs[dialect] and self.pairs[dialect][first]
    if pair then return pair.handler, { [pair.named[2]] = second } end
    parts = parts or split(path)
    plain = plain or "/" .. table.concat(parts, "/")
    handler = exact and exact[plain]
    if handler then return handler, {} end
    for _, route in ipairs(self.patterns[dialect] or {}) do
      local params = route.size == #parts and params_of(route, parts)
      if params then return route.handler, params end
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
