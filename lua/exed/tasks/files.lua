-- SPDX-License-Identifier: MIT
-- Files of tasks for commands that need no node: by name, in [runner] modules and then among what
-- is shipped, or by path.
--
--   file.name, file.path, file.text, file.dir
--   file.sources(NAME) -> text, path     as exed.task.program wants them

local config = require "exed.config"
local find_sources = require "exed.task.sources"
local registry = require "exed.tasks.registry"
local sys = require "exed.sys"
local text_file = require "exed.text_file"
local trust = require "exed.trust"
local words = require "exed.words"

local files = {}

local function fail(format, ...) return nil, { code = "failed", message = format:format(...) } end

-- The directories of tasks, those that win first.
function files.dirs() return { config.runner.modules .. "/tasks", sys.share() .. "/tasks" } end

-- Every task's file: { { name, path }, ... }, by name.
function files.list()
  local paths = {}
  local dirs = files.dirs()
  for i = #dirs, 1, -1 do
    for _, file in ipairs(sys.list(dirs[i]) or {}) do
      local name = file:match "^([%w_-]+)%.lua$"
      if name and not name:find "_test$" then paths[name] = dirs[i] .. "/" .. file end
    end
  end
  local list = {}
  for i, name in ipairs(words.keys(paths)) do list[i] = { name = name, path = paths[name] } end
  return list
end

-- The file at a path, whatever it is called. What it requires is found beside it, and where tasks
-- are.
function files.open(path)
  local text, problem = text_file.read(path)
  if not text then return fail("%s", problem) end
  local name = path:match "([^/]+)%.lua$" or path:match "[^/]+$"
  local dirs = files.dirs()
  local dir = path:match "^(.*)/[^/]*$" or "."
  table.insert(dirs, 1, dir:match "^(.*)/lib$" or dir)
  local others = find_sources.new(dirs)
  return {
    name = name, path = path, text = text, dir = dir, dirs = dirs,
    sources = function(wanted)
      if wanted == "task." .. name then return text, path end
      return others(wanted)
    end,
  }
end

-- The task of that name; nil, err (code not_found) when there is none.
function files.find(name)
  local names = {}
  for _, one in ipairs(files.list()) do
    names[#names + 1] = one.name
    if one.name == name then
      local why = trust.why_not(one.path, sys.stat(one.path))
      if why then return fail("%s", why) end
      return files.open(one.path)
    end
  end
  return nil, {
    code = "not_found", names = names, message = ("there is no task %s%s"):format(
      words.show(name), words.hint(name, names)),
  }
end

-- The file and all of lib/ that it names.
local function with_libs(file)
  local found, waiting = { ["task." .. file.name] = { file.path, file.text } }, { file.text }
  while #waiting > 0 do
    for name in table.remove(waiting):gmatch "[\"'](lib%.[%w_.-]+)[\"']" do
      local text, path = file.sources(name)
      if text and not found[name] then
        found[name] = { path, text }
        waiting[#waiting + 1] = text
      end
    end
  end
  return found
end

-- What a task declares (summary, args, lock, limits), loaded in a process of its own; nil and why
-- not.
function files.describe(file) return registry.check(file.name, with_libs(file)) end

-- What a task's own check says of its args (secrets as ***): true; or nil and what is wrong.
function files.judge(file, values) return registry.judge(file.name, with_libs(file), values) end

-- The same for a file of lib/: true when it loads.
function files.load_lib(file)
  local name = "lib." .. file.name
  local sources = with_libs(file)
  sources[name] = sources["task." .. file.name]
  sources["task.check"] = { "check", ('require %q return { summary = "x", run = print }')
    :format(name) }
  local described, wrong = registry.check("check", sources)
  return described ~= nil, wrong
end

return files
