-- SPDX-License-Identifier: MIT
-- The node's plugins: Lua files that each return one table. Those in the directory [runner] modules
-- replace those of the same name that are shipped. A file is loaded in an environment and a fiber
-- of its own, and is checked before it is used; what does not load is listed with its error, and
-- an earlier version of it stays in use.
--
--   local found = plugins.open(node)                          node: config
--   found.executors[NAME], found.handlers["DIALECT/NAME"]     the plugins' tables
--   found:scan() -> whether anything changed                  looks again; found.generation grows
--   found:list(KIND) -> { { name, path, error }, ... }
--     error: it does not load, or has not the settings that it wants

local check = require "exed.plugins.check"
local env = require "exed.plugins.env"
local guard = require "exed.guard"
local log = require "exed.log"
local settings = require "exed.plan.settings"
local sys = require "exed.sys"
local trust = require "exed.trust"
local text_file = require "exed.text_file"
local words = require "exed.words"

local plugins = {}
plugins.__index = plugins

local LOAD_LIMIT <const> = 5 -- seconds that loading one file may take

-- Whether it says that memory or descriptors are out: the same file may load later.
local function is_passing(text)
  return text:find("not enough memory", 1, true) or text:find("Cannot allocate memory", 1, true)
    or text:find("Too many open files", 1, true)
end

-- Loads and checks one file. Returns its table, or nil and a text that names the file. dialect is
-- for handlers.
function plugins.load(path, kind, name, dialect)
  local text, problem = text_file.read(path)
  if not text then return nil, problem end
  if text:find "^\27" then return nil, path .. ": is bytecode, a plugin is text" end
  local chunk, wrong = load(text, "@" .. path, "t", env.new(name))
  if not chunk then return nil, wrong end
  local ok, found = guard.call("plugin " .. name, LOAD_LIMIT, chunk)
  if not ok then
    local message = found.message or tostring(found)
    return nil, (message:gsub("\nstack traceback:.*", ""))
  end
  if type(found) ~= "table" then return nil, path .. ": does not return a table" end
  if found.type ~= kind then
    return nil, ("%s: its type must be %q"):format(path, kind)
  end
  ok, wrong = pcall(check[kind], found, dialect)
  if not ok then return nil, path .. ": " .. tostring(wrong) end
  return found
end

-- ---- finding files ------------------------------------------------------------------------------

-- A directory that cannot be read for the moment keeps what was known of it.
local function keep_files(files, dir, known)
  for key, file in pairs(known) do
    if file.path == dir .. "/" .. file.name .. ".lua" then files[key] = file end
  end
end

-- Adds the files of a directory to `files` (key -> { name, path, mark }); a later one of the same
-- key replaces an earlier one. Returns why it cannot be read for the moment, or nil.
local function add_files(files, dir, known, dialect)
  local names, err = sys.list(dir)
  if not names then
    if err.code == "not_found" then return end
    log.warn("plugins", "%s", err.message)
    keep_files(files, dir, known)
    return err.message
  end
  for _, file in ipairs(names) do
    local name = file:match "^([%w_-]+)%.lua$"
    local path = dir .. "/" .. file
    local stat = name and not name:find "_test$" and sys.stat(path)
    if stat and stat.type == "file" then
      local key = dialect and dialect .. "/" .. name or name
      files[key] = {
        key = key, name = name, path = path, dialect = dialect, replaced = files[key],
        refused = trust.why_not(path, stat),
      }
      files[key].mark = ("%d %d %d %s"):format(stat.mtime, stat.size, stat.inode,
        files[key].refused or "")
    end
  end
end

-- All files of a kind, and why some may be missing.
local function find_files(self, kind)
  local files, known, unread = {}, self.known[kind], nil
  for _, root in ipairs { self.share, self.modules } do
    if kind == "executor" then
      unread = add_files(files, root .. "/executors", known) or unread
    else
      local base = root == self.share and root .. "/lua/handlers/" or root .. "/handlers/"
      for _, dialect in ipairs(self.dialects) do
        unread = add_files(files, base .. dialect, known, dialect) or unread
      end
    end
  end
  return files, unread
end

-- ---- keeping them -------------------------------------------------------------------------------

local TABLES <const> = { executor = "executors", handler = "handlers" }

-- Asks an executor for what it says of its settings, when these are new and as long as it says
-- that something is wrong.
local function ask_settings(self, file)
  local mark = file.plugin and settings.mark(self.config, file.name)
  if not mark or file.asked == mark and not file.trouble then return end
  local values, why = settings.of(self.config, file.name, file.plugin)
  local trouble = not values and ("%s: %s"):format(file.path, why) or nil
  if trouble and trouble ~= file.trouble then log.error("plugins", "%s", trouble) end
  file.asked, file.trouble = mark, trouble
end

-- What is known of a file, loaded when it is new or has changed.
local function refresh(self, kind, file)
  local old = self.known[kind][file.key]
  if old and old.path == file.path and old.mark == file.mark then return old, false end
  if file.replaced and not (old and old.path == file.path) then
    log.info("plugins", "%s replaces %s", file.path, file.replaced.path)
  end
  local found, err = nil, file.refused
  if not err then found, err = plugins.load(file.path, kind, file.name, file.dialect) end
  if err then log.error("plugins", "%s", err) end
  file.replaced, file.error = nil, err
  if err and is_passing(err) then file.mark = nil end
  file.plugin = found or (old and old.path == file.path and old.plugin) or nil
  return file, true
end

local function scan_kind(self, kind)
  local files, unread = find_files(self, kind)
  local changed, known, loaded = false, {}, {}
  for _, key in ipairs(words.keys(files)) do
    local new
    known[key], new = refresh(self, kind, files[key])
    if kind == "executor" then ask_settings(self, known[key]) end
    loaded[key] = known[key].plugin
    if not known[key].mark then unread = known[key].error end
    changed = changed or new
  end
  for key in pairs(self.known[kind]) do changed = changed or not known[key] end
  self.known[kind], self[TABLES[kind]], self.unread[kind] = known, loaded, unread
  return changed
end

-- Looks for new, changed and removed files. Waits.
function plugins:scan()
  local changed = scan_kind(self, "executor")
  changed = scan_kind(self, "handler") or changed
  if changed then self.generation = self.generation + 1 end
  return changed
end

-- All files of a kind, by name: { name, path, dialect, error }.
function plugins:list(kind)
  local list = {}
  for _, key in ipairs(words.keys(self.known[kind])) do
    local file = self.known[kind][key]
    list[#list + 1] = {
      name = file.name, path = file.path, dialect = file.dialect,
      error = file.error or file.trouble,
    }
  end
  return list
end

-- The executor of that name, or nil, err (bad_request) that says why there is none.
function plugins:executor(name)
  local found = self.executors[name]
  if found then return found end
  local file, known = self.known.executor[name], words.keys(self.executors)
  local hint = words.hint(name, known)
  if hint == "" then hint = ("; there are %s"):format(table.concat(known, ", ")) end
  local message = file and ("executor %s does not load: %s"):format(name, file.error)
    or ("there is no executor %s%s"):format(words.show(name), hint)
  return nil, { code = "bad_request", message = message }
end

-- The dialects that any listener speaks; exed.sock always speaks exed.
local function dialects_of(config)
  local set = { exed = true }
  for _, name in ipairs(config.dialects) do set[name] = true end
  for _, listener in ipairs(config.listen) do
    for _, name in ipairs(listener.dialects) do set[name] = true end
  end
  return words.keys(set)
end

-- Loads all that there is. share: the directory of what is shipped. Waits.
function plugins.open(node, share)
  local self = setmetatable({
    share = share or sys.share(), modules = node.config.runner.modules,
    config = node.config, dialects = dialects_of(node.config.api), generation = 0,
    executors = {}, handlers = {}, unread = {}, -- kind -> why some cannot be read for the moment
    known = { executor = {}, handler = {} },
  }, plugins)
  self:scan()
  return self
end

return plugins
