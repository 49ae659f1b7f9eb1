-- SPDX-License-Identifier: MIT
-- Remembers the state of every file and directory that an inventory was read from, and tells when
-- one of them has changed, was added or taken away.

local watch = {}
watch.__index = watch

local RARE_AT_ONCE <const> = 1000 -- files of single hosts that are looked at in one turn

-- stat: function(path) -> { mtime, size, inode, type }, or nil and why not.
function watch.new(stat)
  return setmetatable({ ask = stat, marks = {}, often = {}, rare = {}, place = 0 }, watch)
end

local function mark_of(found)
  if not found then return "-" end
  return ("%s %s %s %s"):format(found.type or "file", found.mtime, found.size, found.inode)
end

-- As stat; from now on a change of the path is a change of the whole. rare: one of so many that
-- they are looked at in turns.
function watch:stat(path, rare)
  local found, problem = self.ask(path)
  if not self.marks[path] then
    local list = rare and self.rare or self.often
    list[#list + 1] = path
    self.marks[path] = mark_of(found)
  end
  return found, problem
end

local function differs(self, path) return mark_of((self.ask(path))) ~= self.marks[path] end

-- Whether something has changed since it was read. Of the rare ones only some are looked at.
function watch:changed()
  for _, path in ipairs(self.often) do
    if differs(self, path) then return true end
  end
  for _ = 1, math.min(#self.rare, RARE_AT_ONCE) do
    self.place = self.place % #self.rare + 1
    if differs(self, self.rare[self.place]) then return true end
  end
  return false
end

return watch
