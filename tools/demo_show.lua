-- SPDX-License-Identifier: MIT
-- Prints a followed job for people: reads GET /jobs/JID?follow=1 on stdin, a JSON object a line.

local json = require "exed.json"

local NAMES <const> = {
  [-1] = "NO MATCH", [1] = "OK", [2] = "SKIPED", [3] = "FAILED", [4] = "UNREACHABLE",
  [5] = "CHANGED",
}

-- What a host sends is not trusted: control bytes are shown, not obeyed.
local function visible(text)
  return (text:gsub("\n$", ""):gsub("\n", " | "):gsub("%c", function(c)
    return ("\\x%02x"):format(c:byte())
  end))
end

local function say_of(record)
  if record.error then return record.error end
  local text = record.stdout or ""
  if text == "" then text = record.stderr or "" end
  return text
end

local counts, total = {}, 0
for line in io.lines() do
  local object = assert(json.decode(line))
  if not object.targets then
    for host, record in pairs(object) do
      local name = NAMES[record.status] or tostring(record.status)
      counts[name] = (counts[name] or 0) + 1
      total = total + 1
      print(("   %-8s %-12s %s"):format(host, name, visible(say_of(record))))
    end
  end
end

local parts = {}
for name, count in pairs(counts) do parts[#parts + 1] = count .. " " .. name end
table.sort(parts)
print(("\n   %d hosts: %s"):format(total, table.concat(parts, ", ")))
if total == 0 then os.exit(1) end
