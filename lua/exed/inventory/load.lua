-- SPDX-License-Identifier: MIT
-- Reads an inventory from where it is: a file, an executable, or a directory of them, and the
-- variables in files beside it. A reader goes with one such reading.

local source = require "exed.inventory.source"
local vars_files = require "exed.inventory.vars_files"
local words = require "exed.words"

local reader = {}
reader.__index = reader

local MAX_FILES = 200000 -- files and directories of one inventory
local MAX_DEPTH = 16 -- directories within directories; a link may lead back

-- What Ansible leaves out of a directory, by the ends of names and by whole names.
local LEFT_OUT = {
  ".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".ini", ".cfg",
  ".retry",
}
local NOT_HOSTS = { host_vars = true, group_vars = true, vars_plugins = true }

function reader:fail(path, text, ...)
  self.builder:enter(path)
  self.builder:fail(nil, text, ...)
end

-- "file", "directory" or "other"; nil when there is nothing. rare: see watch.
function reader:kind(path, rare)
  local found = self.watch:stat(path, rare)
  self.files = self.files + 1
  if self.files > MAX_FILES then
    self:fail(path, "more than %d files, which is the limit", MAX_FILES)
  end
  return found and (found.type or "file")
end

-- The names in a directory, sorted by their bytes.
function reader:list(path)
  local names, problem = self.options.list(path)
  if not names then
    self:fail(path, "%s", type(problem) == "table" and problem.message or tostring(problem))
  end
  table.sort(names)
  return names
end

function reader:text(path, max_size)
  local text, err = self.options.read(path, max_size)
  if not text then error(err, 0) end
  return text
end

-- A program says `#!` or is one for the kernel, and may be run; text that may be run by mistake is
-- still text.
local function is_program(found, text)
  return found.mode and found.mode & 73 ~= 0 and (text:find "^#!" or text:find "^\127ELF")
end

local function read_file(self, path, found)
  local text = self:text(path, self.options.max_size)
  self.builder:enter(path)
  if is_program(found, text) and self.options.programs then
    return self.options.programs:read(self.builder, path, found)
  end
  self.blank[path] = not text:find "%S"
  source.read(self.builder, text)
end

local function is_left_out(self, path, name)
  if name:find "^%." or NOT_HOSTS[name] then return true end
  for _, tail in ipairs(LEFT_OUT) do
    if name:sub(-#tail) == tail then
      if tail == ".ini" or tail == ".cfg" then
        self.builder:enter(path .. "/" .. name)
        self.builder:warn(nil, "is left out: in a directory, as with Ansible, files that end in "
          .. "%s are no inventories; take the ending off", tail)
      end
      return true
    end
  end
  return false
end

local function read_directory(self, path, depth)
  if depth > MAX_DEPTH then
    self:fail(path, "directories are nested more than %d deep", MAX_DEPTH)
  end
  for _, name in ipairs(self:list(path)) do
    if not is_left_out(self, path, name) then
      local full = path .. "/" .. name
      local kind = self:kind(full)
      if kind == "directory" then
        read_directory(self, full, depth + 1)
      elseif kind == "file" then
        read_file(self, full, self.watch.ask(full) or {})
      end
    end
  end
end

local function missing(path, problem)
  local why = type(problem) == "table" and problem.message or tostring(problem)
  if why:sub(1, #path + 1) ~= path .. ":" then why = path .. ": " .. why end
  error({ code = "inventory", message = why }, 0)
end

local load = {}

-- Reads everything that `path` stands for into the builder. options:
--   watch     of exed.inventory.watch, that learns what was read
--   list      function(path) -> names in a directory, or nil and an error
--   read      function(path, max_size) -> text, or nil and an error
--   programs  of exed.inventory.programs; without it an executable is read as a text
--   max_size  of one file, in bytes
-- Returns a table path -> whether that file was blank. Raises the builder's error.
function load.into(builder, path, options)
  local self = setmetatable({
    builder = builder, options = options, watch = options.watch, files = 0, blank = {},
  }, reader)
  local found, problem = self.watch:stat(path)
  if not found then missing(path, problem) end
  local bare = path:match "^(.-)/*$"
  if found.type == "directory" then
    path = bare == "" and "/" or bare
    read_directory(self, path, 1)
    vars_files.read(self, path)
  elseif not found.type or found.type == "file" then
    read_file(self, path, found)
    vars_files.read(self, path:match "^(.*)/[^/]*$" or ".")
  else
    missing(path, "is neither a file nor a directory, got " .. words.show(found.type))
  end
  return self.blank
end

return load
