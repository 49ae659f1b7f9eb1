-- SPDX-License-Identifier: MIT
-- What a test has left: fibers and what they wait for, children, descriptors.
--
--   local before = left.look()
--   ...
--   left.since(before)        -- a list of texts; empty when nothing is left

local fiber = require "exed.fiber"
local sys = require "exed.sys"
local timer = require "exed.timer"

-- ending: seconds for what has been told to end, and ends at another turn of the loop.
-- kept: a pattern of descriptors that a file's tests may leave; it says why.
local left = { ending = 5, kept = nil }

local function add(list, what) list[what] = (list[what] or 0) + 1 end

local function command(pid)
  local file = io.open(("/proc/%s/comm"):format(pid))
  local name = file and file:read "l"
  if file then file:close() end
  return name or "?"
end

local function children(list)
  for _, thread in ipairs(sys.list "/proc/self/task" or {}) do
    local file = io.open(("/proc/self/task/%s/children"):format(thread))
    if file then
      for pid in file:read "a":gmatch "%d+" do add(list, "child: " .. command(pid)) end
      file:close()
    end
  end
  return list
end

-- Not those that the program has for itself: the thread that kills is made at the first kill, and
-- stays.
local function descriptors(list)
  for _, number in ipairs(sys.list "/proc/self/fd" or {}) do
    local what = sys.readlink("/proc/self/fd/" .. number)
    if what and what ~= "anon_inode:[eventfd]" and not (left.kept and what:find(left.kept)) then
      add(list, "descriptor: " .. what:gsub("%[%d+%]$", ""))
    end
  end
end

-- What is there now: how many of each kind.
function left.look()
  local fibers, waits = fiber.count()
  local things = {}
  children(things)
  descriptors(things)
  return { fibers = fibers, waits = waits, things = things }
end

local function compare(before, now)
  local list = {}
  if now.fibers > before.fibers or now.waits > before.waits then
    list[1] = ("%d fibers and %d waits more; there are:\n%s"):format(now.fibers - before.fibers,
      now.waits - before.waits, table.concat(fiber.list(), "\n"))
  end
  for thing, n in pairs(now.things) do
    local more = n - (before.things[thing] or 0)
    if more > 0 then list[#list + 1] = ("%d more: %s"):format(more, thing) end
  end
  table.sort(list)
  return list
end

-- What is there now and was not before.
function left.since(before)
  local deadline = timer.now() + left.ending
  local list = compare(before, left.look())
  while #list > 0 and timer.now() < deadline do
    collectgarbage() -- what nothing refers to any more is closed by it
    timer.sleep(0.01)
    list = compare(before, left.look())
  end
  return list
end

return left
