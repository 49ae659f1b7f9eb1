-- SPDX-License-Identifier: MIT
-- The files that tasks send: tasks/files/NAME/ beside the task's file, of which templates are kept
-- with the job, and of other files their checksum. [tasks] local_files names directories of the
-- node from which tasks may send, too.
--
--   enclosures.prepare(args, { dirs, pin, keep }) -> args | nil, message
--     A copy of an op's args for its executor: src is a path of this node, a template's text is its
--     content. dirs: of tasks. pin(key, sha256) -> the checksum that the job has for it, or nil,
--     err; keep(key, text) -> the text that the job has for it, or nil, err. Both may be left out.
--   enclosures.check(args, sent, options) -> true | nil, message
--     Of what was opened, with sums: a file or directory that has changed since the job first
--     sent it is an error.
--   enclosures.render(text, vars) -> text | nil, message

local config = require "exed.config"
local sys = require "exed.sys"
local text_file = require "exed.text_file"
local words = require "exed.words"

local enclosures = {}

local MAX_TEMPLATE <const> = 1 << 20 -- bytes

-- ---- where files are ----------------------------------------------------------------------------

-- Nothing may lead out of the directory.
local function has_steps(path) return ("/" .. path .. "/"):find "/%.%.?/" ~= nil end

local function is_below(path, dirs)
  for _, dir in ipairs(dirs or {}) do
    local base = dir:gsub("/+$", "") .. "/"
    if path:sub(1, #base) == base then return true end
  end
  return false
end

-- The path of a task's file, and the key that its checksum is kept under. Without a task (a
-- script) it is a path of this machine.
local function locate(name, task, dirs)
  if not task then return name, name end
  if name:find "%z" or has_steps(name) then
    return nil, ("%s: no . or .. may be in it"):format(words.show(name))
  end
  if name:find "^/" then
    if is_below(name, config.tasks.local_files) then return name, name end
    return nil, ("%s is not below a directory of [tasks] local_files"):format(words.show(name))
  end
  local key = task .. "/" .. name
  for _, dir in ipairs(dirs) do
    local path = ("%s/files/%s"):format(dir, key)
    if sys.stat(path) then return path, key end
  end
  return nil, ("there is no file tasks/files/%s"):format(key)
end

-- ---- templates ----------------------------------------------------------------------------------

-- `{{ name }}` becomes the value of that name; everything else stays as it is.
function enclosures.render(text, vars)
  local unknown
  local done = text:gsub("{{%s*([^{}]-)%s*}}", function(name)
    local value = vars[name]
    if value == nil then unknown = unknown or name end
    return tostring(value)
  end)
  if unknown then
    return nil, ("the template names %s, and vars has no such name%s"):format(words.show(unknown),
      words.hint(unknown, words.keys(vars)))
  end
  return done
end

local function fill(fields, task, options)
  local path, key = locate(fields.template, task, options.dirs)
  if not path then return nil, key end
  local text, err = text_file.read(path, MAX_TEMPLATE)
  if not text then return nil, err end
  if options.keep then
    text, err = options.keep(key, text)
    if not text then return nil, err.message end
  end
  local done, wrong = enclosures.render(text, fields.vars or {})
  if not done then return nil, ("%s: %s"):format(fields.template, wrong) end
  return done
end

-- ---- both ---------------------------------------------------------------------------------------

function enclosures.prepare(args, options)
  if args.op ~= "copy" then return args end
  local copy, fields, wrong = {}, {}
  for name, value in pairs(args) do copy[name] = value end
  for name, value in pairs(args.fields) do fields[name] = value end
  copy.fields = fields
  if fields.template then
    fields.content, wrong = fill(fields, fields.task, options)
    if not fields.content then return nil, wrong end
  elseif fields.src then
    fields.src, copy.key = locate(fields.src, fields.task, options.dirs)
    if not fields.src then return nil, copy.key end
  end
  fields.template, fields.vars, fields.task = nil, nil, nil
  return copy
end

-- args: as prepare returned them.
function enclosures.check(args, sent, options)
  if not args.key or not options.pin or sent == true then return true end
  local first, err = options.pin(args.key, sent.sum)
  if not first then return nil, err.message end
  if first ~= sent.sum then
    return nil, ("%s has changed since this job first sent it"):format(words.show(args.key))
  end
  return true
end

return enclosures
