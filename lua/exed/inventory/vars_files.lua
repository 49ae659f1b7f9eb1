-- SPDX-License-Identifier: MIT
-- The variables in files beside an inventory, as Ansible finds them: group_vars/NAME and
-- host_vars/NAME are a directory, or a file with or without .yml, .yaml or .json behind it, the
-- first that is there. Of a directory all files count, in the order of their names, and those of
-- its directories.

local build = require "exed.inventory.build"
local source = require "exed.inventory.source"

local vars_files = {}

local ENDINGS = { "", ".yml", ".yaml", ".json" }
local KNOWN = { [".yml"] = true, [".yaml"] = true, [".json"] = true }
local MAX_SIZE = 4 << 20 -- bytes in one file of variables
local MAX_DEPTH = 16 -- directories within directories; a link may lead back

-- The ending of a name as Ansible sees it: ".yml", or "" (also for ".hidden").
local function ending_of(name) return name:match "^.+(%.[^.]*)$" or "" end

local function read_file(reader, owner, path)
  local text = reader:text(path, MAX_SIZE)
  reader.builder:enter(path)
  source.vars(reader.builder, build.files_of(owner), text)
end

local function read_directory(reader, owner, path, depth)
  if depth > MAX_DEPTH then
    reader:fail(path, "directories are nested more than %d deep", MAX_DEPTH)
  end
  for _, name in ipairs(reader:list(path)) do
    if not name:find "^%." and not name:find "~$" then
      local ending, full = ending_of(name), path .. "/" .. name
      local kind = reader:kind(full, true)
      if kind == "directory" and ending == "" then
        read_directory(reader, owner, full, depth + 1)
      elseif kind == "file" and (ending == "" or KNOWN[ending]) then
        read_file(reader, owner, full)
      end
    end
  end
end

-- Reads what the directory has for one group or host; names is the set of what is in it.
local function read_owner(reader, directory, names, owner)
  for _, ending in ipairs(ENDINGS) do
    local name = owner.name .. ending
    if names[name] then
      local path = directory .. "/" .. name
      local kind = reader:kind(path, true)
      if kind == "directory" then return read_directory(reader, owner, path, 1) end
      if kind == "file" then return read_file(reader, owner, path) end
    end
  end
end

-- Reads directory/group_vars and directory/host_vars for the groups and hosts of the reader's
-- builder. Raises where a file is broken.
function vars_files.read(reader, directory)
  local builder = reader.builder
  for where, owners in pairs { group_vars = builder.groups, host_vars = builder.hosts } do
    local path = directory .. "/" .. where
    if reader:kind(path) == "directory" then
      local names = {}
      for _, name in ipairs(reader:list(path)) do names[name] = true end
      for _, owner in ipairs(owners) do
        builder:step()
        read_owner(reader, path, names, owner)
      end
    end
  end
end

return vars_files
