-- SPDX-License-Identifier: MIT
-- Environments of commands: lists of "NAME=text".

local env = {}

local function name_of(entry) return entry:match "^[^=]*" end

-- Both lists in one, each name once: that of the second counts. Either may be nil.
function env.merge(first, second)
  if not first or not second then return first or second end
  local over, list = {}, {}
  for _, entry in ipairs(second) do over[name_of(entry)] = true end
  for _, entry in ipairs(first) do
    if not over[name_of(entry)] then list[#list + 1] = entry end
  end
  return table.move(second, 1, #second, #list + 1, list)
end

return env
