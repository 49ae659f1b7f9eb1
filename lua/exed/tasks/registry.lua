-- SPDX-License-Identifier: MIT
-- The tasks that this node knows: files of tasks/ beside those that are shipped, each checked in a
-- process of its own before it comes into force. One that does not load leaves its last good
-- version in force, and its error is kept.
--
--   local found = registry.open(node)
--   found:get(NAME) -> task | nil, err     name, path, summary, args, lock, sources, checker, ...;
--                                          waits for a file that is being checked
--   found:list() -> { { name, path, summary, args, error, loading }, ... }
--   found:close()                          the node ends
--   found:scan()                           looks for new, changed and removed files; waits, but not
--                                          for a file that takes long to load

local fiber = require "exed.fiber"
local log = require "exed.log"
local process = require "exed.tasks.process"
local schema = require "exed.schema"
local sys = require "exed.sys"
local text_file = require "exed.text_file"
local timer = require "exed.timer"
local trust = require "exed.trust"
local words = require "exed.words"

local registry = {}
registry.__index = registry

local CHECK_SECONDS <const> = 5 -- that loading one file may take
local CHECK_MEMORY <const> = 64 << 20
local PLACES <const> = 4 -- files that are checked at once,
local QUICK <const> = 0.5 -- not counting those that have taken longer than so many seconds
local LOOK <const> = 0.05 -- seconds between two looks at what is being checked,
local SHORT <const> = 0.005 -- by a request, and by what waits for a place

-- ---- files --------------------------------------------------------------------------------------

-- The names in a directory. files.unread is set when there may be some that cannot be read.
local function names_in(files, dir)
  local names, err = sys.list(dir)
  if not names and err.code ~= "not_found" then files.unread = err.message end
  return names or {}
end

-- Adds the Lua files of a directory by name: { path, mark }.
local function add_files(files, dir, prefix)
  for _, file in ipairs(names_in(files, dir)) do
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
  for _, name in ipairs(names_in(files, dir)) do
    local stat = name:find "^[%w_-]+$" and sys.stat(dir .. "/" .. name)
    if stat and stat.type == "directory" then
      add_libs(files, dir .. "/" .. name, prefix .. name .. ".")
    end
  end
end

-- The files; and why there may be more of them.
local function find_files(self)
  local files = {}
  for _, root in ipairs { self.share, self.modules } do
    add_files(files, root .. "/tasks", "task.")
    add_libs(files, root .. "/tasks/lib", "lib.")
  end
  local unread = files.unread
  files.unread = nil
  return files, unread
end

-- ---- checking -----------------------------------------------------------------------------------

-- What is quoted in a file that was read: looked for once.
local function quoted_in(found)
  if not found.quoted then
    found.quoted = {}
    for quoted in found.text:gmatch "[\"']([%w_.-]+)[\"']" do found.quoted[quoted] = true end
  end
  return found.quoted
end

-- The sources that a task may need: itself, what it can require, and other tasks that it names.
local function sources_of(texts, key)
  local sources, waiting = {}, { key }
  while #waiting > 0 do
    local name = table.remove(waiting)
    local found = texts[name]
    if found and not sources[name] then
      sources[name] = { found.path, found.text, refused = found.refused }
      for quoted in pairs(quoted_in(found)) do
        for _, other in ipairs { quoted, "task." .. quoted } do
          if texts[other] then waiting[#waiting + 1] = other end
        end
      end
    end
  end
  return sources
end

-- Loads a task's file in a process of its own, which answers one order. Returns the answer; or nil,
-- a text and whether there was no process to do it in.
local function ask_file(name, order)
  local p, err = process.start({ memory = CHECK_MEMORY, cpu = CHECK_SECONDS }, process.modules(),
    order)
  if not p then return nil, err.message, true end
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
      message and message.stuck or order.sources["task." .. name][1], CHECK_SECONDS)
  end
  p:kill()
  if not message then return nil, "its process " .. (p:why_ended() or "ended") end
  return message
end

-- Loads a task's file. Returns what it declares; or as ask_file.
local function check(name, sources)
  local message, wrong, passing = ask_file(name, { check = name, sources = sources })
  if not message then return nil, wrong, passing end
  return message.described, message.wrong
end
registry.check = check

local judging = 0 -- requests for which a task's own check runs

-- Asks a task's own check of its args (secrets as ***). Returns true; or nil, a text, and whether
-- it is worth to ask again.
function registry.judge(name, sources, values)
  local deadline = timer.now() + CHECK_SECONDS
  while judging >= PLACES do
    if timer.now() > deadline then return nil, "too many requests wait for their task", true end
    timer.sleep(SHORT)
  end
  judging = judging + 1
  local _ <close> = setmetatable({}, { __close = function() judging = judging - 1 end })
  local message, wrong, passing = ask_file(name, { judge = name, sources = sources, args = values })
  if not message then return nil, ("task %s: %s"):format(name, wrong), passing end
  if message.judged then return true end
  return nil, message.wrong or "its check says nothing"
end

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

-- The args of a job, as they are kept, for a source that may declare others than the one that the
-- job began with: what it does not declare is left out. Secrets stay what they are kept as, ***.
-- Returns the values, or nil, err.
function registry.check_kept(described, given)
  local public, kept = {}, {}
  for _, field in ipairs(described) do
    if not field.secret then
      public[#public + 1], kept[field.name] = field, given[field.name]
    elseif field.required and given[field.name] == nil then
      return nil, { code = "bad_request", message = ("'%s' is missing"):format(field.name) }
    end
  end
  local values, err = registry.checker(public):check(kept, "json")
  if not values then return nil, err end
  for _, field in ipairs(described) do
    if field.secret then values[field.name] = given[field.name] end
  end
  return values
end

-- A task's file as it is now: its declaration, or its error beside the last good one.
local function refresh(file, sources)
  local described, wrong, passing
  for _, name in ipairs(words.keys(sources)) do wrong = wrong or sources[name].refused end
  if not wrong then described, wrong, passing = check(file.name, sources) end
  if passing then file.all = nil end -- so it is looked at again
  local ok, checker
  if described then
    ok, checker = pcall(registry.checker, described.args)
    if not ok then wrong = tostring(checker) end
  end
  file.error = not ok and (wrong or "does not load") or nil
  file.task = ok and {
    name = file.name, path = file.path, summary = described.summary, args = described.args,
    lock = described.lock, time_limit = described.time_limit, max_hosts = described.max_hosts,
    cleanup_limit = described.cleanup_limit, sources = sources, checker = checker,
    checks = described.checks, type = described.type,
  } or nil
end

-- A file that has been checked comes into force, when it is still there as it was.
local function take(self, key, file)
  if self.checking[key] ~= file then return end
  local old = self.known[key]
  self.checking[key], self.known[key] = nil, file
  if file.error then
    file.task = old and old.path == file.path and old.task or nil
    log.error("tasks", "%s%s", file.error,
      file.task and " (the last good version stays in force)" or "")
  elseif old then
    log.info("tasks", "%s is live", file.path)
  end
end

local function quick_checks(self)
  local n, now = 0, timer.now()
  for file in pairs(self.checks) do
    if now - file.since < QUICK then n = n + 1 end
  end
  return n
end

-- Checks a file in a fiber of its own, so that one that takes long keeps nobody waiting.
local function begin_check(self, key, file, sources)
  while quick_checks(self) >= PLACES do timer.sleep(SHORT) end
  file.since = timer.now()
  self.checking[key], self.checks[file] = file, true
  local ok, err = fiber.spawn("check " .. key, function()
    local fine, problem = xpcall(refresh, debug.traceback, file, sources)
    if self.closed then return end
    if not fine then file.error, file.all = "inside exed: " .. problem, nil end
    self.checks[file] = nil
    take(self, key, file)
  end)
  if ok then
    self.checks[file] = ok
    return
  end
  self.checks[file], file.error, file.all = nil, err.message, nil
  take(self, key, file)
end

-- The node ends: so do the checks that are under way.
function registry:close()
  self.closed = true
  for _, handle in pairs(self.checks) do handle:cancel "the node ends" end
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
      local text = text_file.read(file.path)
      if text then
        texts[key] = {
          path = file.path, mark = file.mark, text = text, refused = file.refused,
        }
      end
    end
  end
  return texts
end

local function is_same(one, other)
  return one ~= nil and one.path == other.path and one.all == other.all
end

-- Forgets the files that are gone.
local function forget(self, files, texts)
  for _, list in ipairs { self.known, self.checking } do
    for key in pairs(list) do
      if not files[key] or not texts[key] then list[key] = nil end
    end
  end
end

-- Looks at the files, and checks those that are new or have changed. Waits.
function registry:scan()
  self.looking = true
  local files, unread = find_files(self)
  if unread then log.warn("tasks", "%s", unread) end
  -- What cannot be read for the moment stays as it was.
  if unread and next(self.known) then return end
  local texts = read_texts(self, files)
  self.texts = texts
  forget(self, files, texts)
  for _, key in ipairs(words.keys(files)) do
    if key:find "^task%." and texts[key] then
      local file, sources = files[key], sources_of(texts, key)
      file.all = mark_of(files, sources)
      if not is_same(self.checking[key] or self.known[key], file) then
        begin_check(self, key, file, sources)
      end
    end
  end
  while quick_checks(self) > 0 do timer.sleep(SHORT) end
  self.looking, self.looks = false, self.looks + 1
end

-- ---- asking -------------------------------------------------------------------------------------

-- The task of that name, or nil, err. Waits when its first version is being checked.
function registry:get(name)
  local key = "task." .. tostring(name)
  while not self.known[key] and self.checking[key] do timer.sleep(LOOK) end
  local file = self.known[key]
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

-- The task of that name as its file is now; nil, err also when that does not load, and a former
-- version is in force. Waits for the next look.
function registry:newest(name)
  local wanted, deadline = self.looks + (self.looking and 2 or 1), timer.now() + 2 * CHECK_SECONDS
  while (self.looks < wanted or self.checking["task." .. name]) and timer.now() < deadline do
    timer.sleep(LOOK)
  end
  local file = self.known["task." .. name]
  if not file or not file.error then return self:get(name) end
  return nil, { code = "bad_request", message = ("task %s does not load: %s"):format(name,
    file.error) }
end

function registry:list()
  local list = {}
  local all = {}
  for key, file in pairs(self.checking) do all[key] = file end
  for key, file in pairs(self.known) do all[key] = file end
  for _, key in ipairs(words.keys(all)) do
    local file = all[key]
    local task = file.task or {}
    list[#list + 1] = {
      name = file.name, type = task.type or "task", path = file.path,
      summary = task.summary, args = task.args, error = file.error,
      loading = self.checking[key] and true or nil,
    }
  end
  return list
end

-- Loads all that there is. Waits.
function registry.open(node, share)
  local self = setmetatable({
    share = share or sys.share(), modules = node.config.runner.modules, texts = {},
    known = {}, -- by key: files as they were checked
    checking = {}, -- by key: the newest version of a file, while it is checked
    looks = 0, -- that have ended
    checks = {}, -- files that are being checked, those too that nobody waits for any more
  }, registry)
  self:scan()
  return self
end

return registry
