-- SPDX-License-Identifier: MIT
-- Finds the files of tasks and of what they share: tasks/NAME.lua and tasks/lib/NAME.lua.

local sources = {}

local MAX_SIZE <const> = 1 << 20 -- bytes of a file

local function read(path)
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem end
  local text, failed = file:read(MAX_SIZE + 1)
  file:close()
  if failed then return nil, path .. ": " .. tostring(failed) end
  if text and #text > MAX_SIZE then
    return nil, ("%s: larger than %d bytes"):format(path, MAX_SIZE)
  end
  return text or ""
end

-- A function that finds "task.NAME" and "lib.NAME" in a list of directories, the first that has it:
-- name -> text, path; or nil and why not.
function sources.new(dirs)
  return function(name)
    local kind, rest = name:match "^(%a+)%.(.+)$"
    if not kind or not rest:find "^[%w_][%w_.-]*$" then return nil, "no name of a file" end
    local file = (kind == "lib" and "lib/" or "") .. rest:gsub("%.", "/") .. ".lua"
    for _, dir in ipairs(dirs) do
      local path = dir .. "/" .. file
      local text = read(path)
      if text then return text, path end
    end
    return nil, "no file " .. file
  end
end

return sources
