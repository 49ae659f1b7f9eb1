-- SPDX-License-Identifier: MIT
-- Keeps an inventory loaded: read again when one of its files or what its programs print changed;
-- when it is broken, the last good inventory stays in force and the error is kept for /healthz and
-- the log.
--
--   local holder, err = holder.open(path, { stat = stat })
--   holder.inventory   the inventory in force, never nil (empty until a first good load)
--   holder.error       what is wrong with the files now: { code, message }, or nil
--   holder.generation  grows by one with each inventory that comes into force

local inventory = require "exed.inventory"
local sys = require "exed.sys"
local timer = require "exed.timer"
local watch = require "exed.inventory.watch"

local holder = {}
holder.__index = holder

-- KiB by which memory may grow before the collector goes on while an inventory is read. It ends a
-- cycle by going once more, without a pause, over every table that was changed meanwhile, which are
-- all tables of the new inventory: of 50,000 hosts that took 0.2 s at a time, after the reading
-- nothing is felt.
local GROWTH <const> = 128 << 10
-- Turns of the loop that a cycle which is under way is given to end in.
local TURNS <const> = 1000

local function hold_collector()
  for _ = 1, TURNS do
    if sys.hold_collector() then return true end
    timer.sleep(0)
  end
  return false
end

-- inventory.load with the collector held back.
local function load_quietly(self)
  local held = hold_collector()
  local first, options = collectgarbage "count", {}
  local function go_on()
    if held then sys.release_collector() end
    held = false
  end
  for name, option in pairs(self.options) do options[name] = option end
  function options.pause()
    if held and collectgarbage "count" - first > GROWTH then go_on() end
    if self.options.pause then self.options.pause() end
  end
  local _ <close> = setmetatable({}, { __close = go_on })
  return inventory.load(self.path, options)
end

local function fail(self, err)
  self.error = err
  return false, err
end

-- A file that was emptied is most likely one that is being written.
local function lost_file(self, found)
  if #self.inventory.hosts == 0 then return nil end
  for path, blank in pairs(found.blank or {}) do
    if blank and (self.inventory.blank or {})[path] == false then return path end
  end
  return nil
end

local function has_changed(self)
  if self.unread or not self.watch or self.watch:changed() then return true end
  local programs = self.options.programs
  return programs and programs:changed() or false
end

-- Reads everything again if something changed (one reader at a time: a second one that comes while
-- the first is pausing returns at once). Returns true when a new inventory came into force, else
-- false, with the error when it is broken (self.error has it too).
function holder:refresh()
  if self.busy then return false, self.error end
  self.busy = true
  local _ <close> = setmetatable({}, { __close = function() self.busy = false end })

  if not has_changed(self) then return false, self.error end
  self.unread = true -- and so it is still when an error ends the reading
  self.watch = watch.new(self.options.stat)
  self.options.watch = self.watch
  local found, broken = load_quietly(self)
  self.unread = broken ~= nil and broken.code == "memory"
  if not found then return fail(self, broken) end
  local lost = lost_file(self, found)
  if lost then
    return fail(self, {
      code = "inventory", message = lost .. ": is empty, the last inventory stays in force",
    })
  end
  self.inventory, self.error = found, nil
  self.generation = self.generation + 1
  return true
end

-- Opens an inventory. options as for exed.inventory.load; by default the files are real ones:
--   stat  function(path) -> { mtime, size, inode, type, mode, uid }, or nil and why not
-- Returns a holder, and the error when it could not be loaded (the holder is then empty and takes
-- the inventory as soon as it is right).
function holder.open(path, options)
  local own = { stat = sys.stat }
  for name, option in pairs(options or {}) do own[name] = option end
  local self = setmetatable({
    path = path, options = own, generation = 0, inventory = inventory.parse(path, ""),
  }, holder)
  local _, err = self:refresh()
  return self, err
end

return holder
