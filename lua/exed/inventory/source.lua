-- SPDX-License-Identifier: MIT
-- Reads the text of one inventory file into a builder: tells INI from YAML, and refuses what is
-- neither.

local read_ini = require "exed.inventory.ini"
local yaml = require "exed.inventory.yaml"

local source = {}

local function ending(name)
  local found = (name:match "%.([%w]+)$" or ""):lower()
  if found == "yml" or found == "yaml" or found == "json" then return "yaml" end
  return (found == "ini" or found == "cfg") and "ini" or nil
end

-- The format by the first line that says something, then by the ending of the file's name.
local function format_of(name, text)
  for line in text:gmatch "[^\r\n]+" do
    local bare = line:match "^%s*(.-)%s*$"
    if bare:find "^%-%-%-" or bare:find "^[{%%]" then return "yaml" end
    if bare:find "^;" or bare:find "^%[[^%[%],'\"]+%]%s*#?" then return "ini" end
    if bare ~= "" and not bare:find "^#" then
      local key = bare:find "^[%w_.\"'-]+:%s*$" or bare:find "^[%w_.\"'-]+:%s+[^=]*$"
      return ending(name) or (key and "yaml") or "ini"
    end
  end
  return ending(name) or "ini"
end

-- The text as it is parsed; raises the builder's error when it cannot be one of ours.
local function checked(builder, text)
  local zero = text:find("\0", 1, true)
  if zero then
    local _, breaks = text:sub(1, zero):gsub("\n", "")
    builder:fail(breaks + 1, "a NUL byte; an inventory is a text file")
  end
  return (text:gsub("^\239\187\191", ""))
end

local function is_encrypted(text) return text:find "^%$ANSIBLE_VAULT" ~= nil end

-- Reads an inventory's text; builder.file stands for it in messages.
function source.read(builder, text)
  text = checked(builder, text)
  if text:find "^#!" then
    builder:fail(1, "this is a script and may not be run: make it executable, or save its output "
      .. "as YAML instead")
  end
  if is_encrypted(text) then
    builder:fail(1, "the file is encrypted by ansible-vault, exed has no key for it")
  end
  local reader = format_of(builder.file, text) == "yaml" and yaml.inventory or read_ini
  reader(builder, text)
end

-- Reads the text of a file of variables for `owner`. An encrypted one is left out with a warning.
function source.vars(builder, owner, text)
  text = checked(builder, text)
  if is_encrypted(text) then
    builder:warn(1, "the file is encrypted by ansible-vault and left out, exed has no key for it")
    return
  end
  yaml.vars(builder, owner, text)
end

return source
