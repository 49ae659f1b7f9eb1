-- SPDX-License-Identifier: MIT
-- What tasks say of files: the fields of copy, fetch and restore, and what their records tell.

local fail = require "exed.task.fail"

local copies = {}

local FRESH <const> = 11 -- exit code of a copy with a backup where there was nothing before
local WAYS <const> = { "src", "content", "template" }
local TIMEOUT <const> = 600 -- seconds
local NAME <const> = "^[%w_][%w_.-]*%$?$"

-- As lua/exed/task/operations.lua has its kinds.
copies.KINDS = {
  copy = { changes = true, timeout = TIMEOUT, fields = {
    dest = { "path", required = true, max = 4000 }, src = { "string", min = 1, max = 4000 },
    template = { "string", min = 1, max = 4000 },
    mode = { "string", match = "^[0-7][0-7][0-7][0-7]?$" },
    owner = { "string", match = NAME }, group = { "string", match = NAME },
    backup = { "boolean" },
  } },
  fetch = { changes = false, fields = {
    src = { "path", required = true, max = 4000 },
    max = { "integer", min = 0, max = 64 << 10, default = 64 << 10 },
  } },
  restore = { changes = true, timeout = TIMEOUT, fields = {} },
}

local function check_vars(vars, check_text)
  if vars == nil then return nil end
  if type(vars) ~= "table" then fail.usage "copy: vars must be a table of name = value" end
  local copy = {}
  for name, value in pairs(vars) do
    if type(name) ~= "string" then fail.usage "copy: vars must be a table of name = value" end
    if type(value) == "boolean" then value = tostring(value) end
    copy[name] = check_text(value, "copy: vars." .. name)
  end
  return copy
end

-- Takes what no schema can check out of the given fields of a copy. Returns { content, vars }, and
-- the rest. check_text(value, what): text or a secret's handle.
function copies.read(given, check_text)
  if type(given) ~= "table" then fail.usage "copy takes one table of named fields" end
  local fields, rest, ways = {}, {}, {}
  for name, value in pairs(given) do rest[name] = value end
  for _, way in ipairs(WAYS) do
    if given[way] ~= nil then ways[#ways + 1] = way end
  end
  if #ways ~= 1 then
    fail.usage("copy wants one of src, content and template, got %s",
      #ways == 0 and "none" or table.concat(ways, " and "))
  end
  if given.vars ~= nil and not given.template then fail.usage "copy: vars are for a template" end
  if given.content ~= nil then fields.content = check_text(given.content, "copy: content") end
  fields.vars = check_vars(given.vars, check_text)
  rest.content, rest.vars = nil, nil
  return fields, rest
end

-- What a record tells beside what its answer has. op: of its effect, which names its backup.
function copies.tell(kind, record, fields, op)
  if kind == "fetch" and record.ok then
    record.content = record.content or record.stdout
  elseif kind == "fetch" and not record.error and record.status == "FAILED" then
    record.error = record.stderr:match "^[^\n]+"
  elseif kind == "copy" then
    record.dest = fields.dest
    if fields.backup and record.status == "CHANGED" then
      record.backup, record.existed = fields.dest .. ".exed-" .. op, record.rtc ~= FRESH
    end
  end
end

-- The fields of the effect that undoes a copy; nil when there is nothing to undo.
function copies.undo(record, host)
  if type(record) ~= "table" or rawget(record, "host") ~= host then
    fail.usage "restore wants the record of a copy to that host"
  end
  if not rawget(record, "backup") then
    if record.status == "CHANGED" or not rawget(record, "dest") then
      fail.usage "restore wants the record of a copy that had backup = true"
    end
    return nil
  end
  return { dest = record.dest, backup = record.backup, existed = record.existed }
end

return copies
