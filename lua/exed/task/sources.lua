-- SPDX-License-Identifier: MIT
-- Finds the files of tasks and of what they share: tasks/NAME.lua and tasks/lib/NAME.lua.

local text_file = require "exed.text_file"

local sources = {}

-- A function that finds "task.NAME" and "lib.NAME" in a list of directories, the first that has it:
-- name -> text, path; or nil and why not.
function sources.new(dirs)
  return function(name)
    local kind, rest = name:match "^(%a+)%.(.+)$"
    if not kind or not rest:find "^[%w_][%w_.-]*$" then return nil, "no name of a file" end
    local file = (kind == "lib" and "lib/" or "") .. rest:gsub("%.", "/") .. ".lua"
    for _, dir in ipairs(dirs) do
      local path = dir .. "/" .. file
      local text = text_file.read(path)
      if text then return text, path end
    end
    return nil, "no file " .. file
  end
end

return sources
