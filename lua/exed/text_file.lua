-- SPDX-License-Identifier: MIT
-- Reads small files whole: plugins, inventories, tokens, keys.

local text_file = {}

local MAX_SIZE <const> = 1 << 20

-- The bytes of the file, at most max (1 MiB); or nil and a text that begins with the path and says
-- why not. Blocks: for regular files.
function text_file.read(path, max)
  local limit = max or MAX_SIZE
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem end
  local text, failed = file:read(limit + 1)
  file:close()
  if failed then return nil, ("%s: cannot be read: %s"):format(path, failed) end
  if text and #text > limit then
    return nil, ("%s: larger than %d bytes, which is the limit"):format(path, limit)
  end
  return text or ""
end

return text_file
