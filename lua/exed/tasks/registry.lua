-- SPDX-License-Identifier: MIT
-- The tasks that this node knows: files of tasks/ beside those that are shipped, each checked in a
-- process of its own before it comes into force. One that does not load leaves its last good
-- version in force, and its error is kept.
--
--   local found = registry.open(node)
--   found:get(NAME) -> task | nil, err     name, path, summary, args, lock, sources, checker, ...
--   found:list() -> { { name, path, summary, args, error }, ... }
--   found:scan()                           looks for new, changed and removed files; waits

local log = require "exed.log"
local process = require "exed.tasks.process"
local schema = require "exed.schema"
local sys = require "exed.sys"
local trust = require "exed.trust"
local words = require "exed.words"

local registry = {}
registry.__index = registry

local CHECK_SECONDS <const> = 5 -- that loading one file may take
local CHECK_MEMORY <const> = 64 << 20
local MAX_SIZE <const> = 1 << 20 -- bytes of a file

-- ---- files --------------------------------------------------------------------------------------

local function read(path)
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem end
  local text = file:read(MAX_SIZE + 1) or ""
  file:close()
  if #text > MAX_SIZE then return nil, ("%s: larger than %d bytes"):format(path, MAX_SIZE) end
  return text
end

-- Adds the Lua files of a directory by name: { path, mark }.
local function add_files(files, dir, prefix)
  for _, file in ipairs(sys.list(dir) or {}) do
    local name = file:match "^([%w_-]+)%.lua$"
    local stat = name and not name:find "_test$" and sys.stat(dir .. "/" .. file)
    if stat and stat.type == "file" then
      files[prefix .. name] = {
        name = name, path = dir .. "/" .. file, refused = trust.why_not(dir .. "/" .. file, stat),
      }
      local one = files[prefix .. name]
      one.mark = ("%s %s %s %s"):format(stat.mtime, stat.size, stat.inode, one.refused or "")
    end
  end
end

local function add_libs(files, dir, prefix)
  add_files(files, dir, prefix)
  for _, name in ipairs(sys.list(dir) or {}) do
    local stat = name:find "^[%w_-]+$" and sys.stat(dir .. "/" .. name)
    if stat and stat.type == "directory" then
      add_libs(files, dir .. "/" .. name, prefix .. name .. ".")
    end
  end
end

local function find_files(self)
  local files = {}
  for _, root in ipairs { self.share, self.modules } do
    add_files(files, root .. "/tasks", "task.")
    add_libs(files, root .. "/tasks/lib", "lib.")
  end
  return files
end

-- ---- checking -----------------------------------------------------------------------------------

-- The sources that a task may need: itself, what it can require, and other tasks that it names.
local function sources_of(texts, key)
  local sources, waiting = {}, { key }
  while #waiting > 0 do
    local name = table.remove(waiting)
    local found = texts[name]
    if found and not sources[name] then
      sources[name] = { found.path, found.text, refused = found.refused }
      for quoted in found.text:gmatch "[\"']([%w_.-]+)[\"']" do
        for _, other in ipairs { quoted, "task." .. quoted } do
          if texts[other] then waiting[#waiting + 1] = other end
        end
      end
    end
  end
  return sources
end

-- Loads a task's file in a process of its own. Returns what it declares, or nil and a text.
local function check(name, sources)
  local p, err = process.start({ memory = CHECK_MEMORY, cpu = CHECK_SECONDS }, process.modules(),
    { check = name, sources = sources })
  if not p then return nil, err.message end
  local message
  message, err = p:next(CHECK_SECONDS)
  if message and (message.memory or message.error) then
    return nil, message.error or message.memory .. ": used more memory than its limit"
  end
  if not message and err.code == "timeout" then
    p:probe()
    message = p:next(1)
    p:kill()
    return nil, ("%s: took more than %d s to load"):format(
      message and message.stuck or sources["task." .. name][1], CHECK_SECONDS)
  end
  p:kill()
  if not message then return nil, "its process " .. (p:why_ended() or "ended") end
  return message.described, message.wrong
end
registry.check = check

-- The declaration again, from what the process told of it.
local function to_declaration(described)
  local declared = {}
  for _, field in ipairs(described) do
    declared[field.name] = {
      field.type, required = field.required or nil, default = field.default, min = field.min,
      max = field.max, match = field.match, help = field.help, secret = field.secret or nil,
      of = field.items and { field.items.type, min = field.items.min, max = field.items.max,
        match = field.items.match, of = field.items.of } or field.of,
    }
  end
  return declared
end

-- What checks the args of a task, from what its process told of them; raises when they cannot be.
function registry.checker(described) return schema.compile(to_declaration(described)) end

-- A task's file as it is now: its declaration, or its error beside the last good one.
local function refresh(file, sources, old)
  local described, wrong
  for _, name in ipairs(words.keys(sources)) do wrong = wrong or sources[name].refused end
  if not wrong then described, wrong = check(file.name, sources) end
  if described then
    local ok, checker = pcall(registry.checker, described.args)
    if not ok then described, wrong = nil, tostring(checker) end
    file.task = ok and {
      name = file.name, path = file.path, summary = described.summary, args = described.args,
      lock = described.lock, time_limit = described.time_limit, max_hosts = described.max_hosts,
      cleanup_limit = described.cleanup_limit, sources = sources, checker = checker,
    } or nil
  end
  if not described then
    file.error = wrong or "does not load"
    file.task = old and old.path == file.path and old.task or nil
    log.error("tasks", "%s%s", file.error,
      file.task and " (the last good version stays in force)" or "")
  elseif old then
    log.info("tasks", "%s is live", file.path)
  end
end

-- What a task's file and all that it may need look like; a change of any is a change of the task.
local function mark_of(files, sources)
  local marks = {}
  for _, name in ipairs(words.keys(sources)) do marks[#marks + 1] = name .. files[name].mark end
  return table.concat(marks, " ")
end

-- Reads the files that are new or have changed.
local function read_texts(self, files)
  local texts = {}
  for key, file in pairs(files) do
    local known = self.texts[key]
    if known and known.path == file.path and known.mark == file.mark then
      texts[key] = known
    else
      local text = read(file.path)
      if text then
        texts[key] = {
          path = file.path, mark = file.mark, text = text, refused = file.refused,
        }
      end
    end
  end
  return texts
end

-- Looks at the files. Returns whether anything changed. Waits.
function registry:scan()
  local files, changed = find_files(self), false
  local texts, known = read_texts(self, files), {}
  for _, key in ipairs(words.keys(files)) do
    local file, old = files[key], self.known[key]
    if key:find "^task%." and texts[key] then
      local sources = sources_of(texts, key)
      file.all = mark_of(files, sources)
      if old and old.path == file.path and old.all == file.all then
        file = old
      else
        refresh(file, sources, old)
        changed = true
      end
      known[key] = file
    end
  end
  for key in pairs(self.known) do changed = changed or not known[key] end
  self.known, self.texts = known, texts
  return changed
end

-- ---- asking -------------------------------------------------------------------------------------

-- The task of that name, or nil, err.
function registry:get(name)
  local file = self.known["task." .. tostring(name)]
  if file and file.task then return file.task end
  if file then
    return nil, { code = "bad_request", message = ("task %s does not load: %s"):format(name,
      file.error) }
  end
  local names = {}
  for _, known in pairs(self.known) do names[#names + 1] = known.name end
  table.sort(names)
  return nil, { code = "not_found", message = ("there is no task %s%s"):format(words.show(name),
    words.hint(tostring(name), names)) }
end

function registry:list()
  local list = {}
  for _, key in ipairs(words.keys(self.known)) do
    local file = self.known[key]
    local task = file.task or {}
    list[#list + 1] = {
      name = file.name, type = "task", path = file.path, summary = task.summary, args = task.args,
      error = file.error,
    }
  end
  return list
end

-- Loads all that there is. Waits.
function registry.open(node, share)
  local self = setmetatable({
    share = share or sys.share(), modules = node.config.runner.modules, known = {}, texts = {},
  }, registry)
  self:scan()
  return self
end

return registry
