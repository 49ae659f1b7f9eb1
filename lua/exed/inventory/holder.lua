-- SPDX-License-Identifier: MIT
-- Keeps an inventory file loaded: read again when it changed; when it is broken, the last good
-- inventory stays in force and the error is kept for /healthz and the log.
--
--   local holder, err = holder.open(path, { stat = stat })
--   holder.inventory   the inventory in force, never nil (empty until a first good load)
--   holder.error       what is wrong with the file now: { code, message }, or nil
--   holder.generation  grows by one with each inventory that comes into force

local inventory = require "exed.inventory"

local holder = {}
holder.__index = holder

local EMPTY = "" -- signature of a file that was never read

-- What tells a changed file from an unchanged one; nil and an error when it is no regular file.
local function signature(self)
  local found, problem = self.stat(self.path)
  if not found then
    local why = type(problem) == "table" and problem.message or tostring(problem)
    if why:sub(1, #self.path + 1) ~= self.path .. ":" then why = self.path .. ": " .. why end
    return nil, { code = "inventory", message = why }
  end
  if found.type and found.type ~= "file" then
    return nil, { code = "inventory", message = self.path .. ": is not a regular file" }
  end
  return ("%s %s %s"):format(found.mtime, found.size, found.inode)
end

local function fail(self, err)
  self.error = err
  return false, err
end

-- An emptied file is most likely one that is being written.
local function is_loss(self, text)
  return not text:find "%S" and #self.inventory.hosts > 0
end

-- The file's text when it is not the one that was read last; nil when it is; nil and an error.
local function changed_text(self)
  if not self.stat then
    local text, err = self.read(self.path, self.options.max_size)
    if text and text == self.text then return nil end
    self.text = text
    return text, err
  end
  local mark, problem = signature(self)
  if mark and mark == self.mark then return nil end
  self.mark = EMPTY
  if not mark then return nil, problem end
  local text, err = self.read(self.path, self.options.max_size)
  if text and signature(self) == mark then self.mark = mark end -- else it changed meanwhile
  return text, err
end

-- Reads the file again if it changed (one reader at a time: a second one that comes while the
-- first is pausing returns at once). Returns true when a new inventory came into force, else
-- false, with the error when the file is broken (self.error has it too).
function holder:refresh()
  if self.busy then return false, self.error end
  self.busy = true
  local _ <close> = setmetatable({}, { __close = function() self.busy = false end })

  local text, err = changed_text(self)
  if err then return fail(self, err) end
  if not text then return false, self.error end
  if is_loss(self, text) then
    return fail(self, {
      code = "inventory", message = self.path .. ": is empty, the last inventory stays in force",
    })
  end
  local found, broken = inventory.parse(self.path, text, self.options)
  if not found then return fail(self, broken) end
  self.inventory, self.error = found, nil
  self.generation = self.generation + 1
  return true
end

-- Opens an inventory file. options as for exed.inventory.parse, and
--   stat  function(path) -> { mtime, size, inode, type }, or nil and why not; without it the
--         content is compared
--   read  function(path, max_size) -> text, or nil and an error; by default reads the file
-- Returns a holder, and the error when the file could not be loaded (the holder is then empty and
-- takes the file as soon as it is right).
function holder.open(path, options)
  options = options or {}
  local self = setmetatable({
    path = path, options = options, stat = options.stat, generation = 0,
    read = options.read or inventory.read_file, inventory = inventory.parse(path, ""),
    mark = EMPTY,
  }, holder)
  local _, err = self:refresh()
  return self, err
end

return holder
