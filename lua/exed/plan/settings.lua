-- SPDX-License-Identifier: MIT
-- The settings of executors: what [executor NAME] of the configuration says, by what the file
-- declares, and what its own check says of them. Nothing here waits.
--
--   settings.of(config, name, executor) -> values | nil, why
--   settings.mark(config, name) -> text                     differs when the section does
--   settings.names(config) -> names of executors that have a section

local fiber = require "exed.fiber"
local schema = require "exed.schema"
local words = require "exed.words"

local settings = {}

local PREFIX <const> = "executor "

-- The texts of a section, as a new table.
local function section_of(config, name)
  local texts, section = {}, config[PREFIX .. name]
  for key, value in pairs(section or {}) do texts[key] = value end
  return texts
end

function settings.names(config)
  local names = {}
  for section in pairs(config) do
    names[#names + 1] = section:match("^" .. PREFIX .. "(.*)$")
  end
  table.sort(names)
  return names
end

function settings.mark(config, name)
  local texts, lines = section_of(config, name), {}
  for i, key in ipairs(words.keys(texts)) do lines[i] = ("%s=%q"):format(key, texts[key]) end
  return table.concat(lines, "\n")
end

-- Calls into an executor's file. Returns true and what it returned, or false and a text.
function settings.call(config, fn, ...)
  local found = table.pack(fiber.bounded(config.runtime.executor_budget, fn, ...))
  if found[1] then return table.unpack(found, 1, found.n) end
  local err = found[2]
  return false, tostring(type(err) == "table" and err.message or err)
end

-- As the file declares them, and checked by it.
function settings.of(config, name, executor)
  local declared = executor.declared or schema.compile(executor.settings or {})
  local values, err = declared:check(section_of(config, name), "text")
  if not values then return nil, ("[%s%s] %s"):format(PREFIX, name, err.message) end
  if not executor.check then return values end
  local called, good, why = settings.call(config, executor.check, values)
  if not called then return nil, "check: " .. good end
  if good then return values end
  return nil, tostring(why or "its check refuses the settings")
end

return settings
