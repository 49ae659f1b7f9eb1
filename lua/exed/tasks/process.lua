-- SPDX-License-Identifier: MIT
-- Starts processes for tasks: sends them exed's own modules that they need, and carries messages.

local json = require "exed.json"
local sha256 = require("exed.text").sha256
local sys = require "exed.sys"
local text_file = require "exed.text_file"
local task_host = require "exed.task_host"

local process = {}
process.__index = process

-- What runs in a task's process, from lua/.
local MODULES <const> = {
  "exed.glob", "exed.inventory.names", "exed.pattern", "exed.pattern.split", "exed.sandbox",
  "exed.schema", "exed.schema.declare", "exed.schema.form", "exed.schema.types", "exed.task.copies",
  "exed.task.counts", "exed.task.definition", "exed.task.each", "exed.task.env", "exed.task.fail",
  "exed.task.hosts", "exed.task.http", "exed.task.job", "exed.task.main", "exed.task.operations",
  "exed.task.order",
  "exed.task.program", "exed.task.records", "exed.task.runtime", "exed.task.same",
  "exed.task.session", "exed.task.tally", "exed.task.threads", "exed.task.walk", "exed.words",
}

local MAX_VALUES <const> = 300000 -- in one message of a process

local function path_of(name) return ("%s/lua/%s.lua"):format(sys.share(), name:gsub("%.", "/")) end

local function read(path) return { path, assert(text_file.read(path)) } end

-- What the files look like; another text is another version of them.
local function mark_of()
  local marks = {}
  for i, name in ipairs(MODULES) do
    local stat = sys.stat(path_of(name))
    marks[i] = stat and ("%s %s %s"):format(stat.mtime, stat.size, stat.inode) or ""
  end
  return table.concat(marks, " ")
end

local kept = {} -- the modules as they were read last: mark, text, sha

-- exed's own modules for tasks, as they are now: the text (JSON) that a job is pinned to, and its
-- checksum. They are read again when a file has changed.
function process.modules()
  local mark = mark_of()
  if kept.mark ~= mark then
    local modules = {}
    for _, name in ipairs(MODULES) do modules[name] = read(path_of(name)) end
    local text = json.encode(modules)
    kept = { mark = mark, text = text, sha = sha256(text) }
  end
  return kept.text, kept.sha
end

-- Starts a process. limits: memory (bytes), cpu (seconds); modules: of process.modules; order: what
-- it is to do. Returns it, or nil, err.
function process.start(limits, modules, order)
  local child, err = task_host.start {
    memory = math.floor(limits.memory), cpu = math.ceil(limits.cpu or 0),
  }
  if not child then return nil, err end
  local self = setmetatable({ child = child }, process)
  local ok
  ok, err = child:send('{"main":"exed.task.main","modules":' .. modules .. "}")
  if ok then ok, err = self:send(order) end
  if not ok then
    child:kill()
    return nil, err
  end
  return self
end

-- A message of its text, or nil, err (code "invalid": it is no JSON). What comes most often is read
-- at once.
function process.read(text)
  local idle = text:match '^{"idle":(%d+)}$'
  if idle then return { idle = math.tointeger(tonumber(idle)) } end
  local message, wrong = json.decode(text, MAX_VALUES)
  if message == nil then return nil, { code = "invalid", message = wrong.message } end
  return message
end

-- The texts of all messages that there are, at least one, or nil, err as next.
function process:texts(seconds) return self.child:all(seconds) end

-- text: the message as JSON, when it is known.
function process:send(message, text) return self.child:send(text or json.encode(message)) end

-- The next message and its bytes, or nil, err (code "closed": it ended; "timeout"; "invalid": it is
-- no JSON).
function process:next(seconds)
  local text, err = self.child:next(seconds)
  if not text then return nil, err end
  local message, wrong = json.decode(text, MAX_VALUES)
  if message == nil then return nil, { code = "invalid", message = wrong.message } end
  return message, #text
end

function process:probe() self.child:probe() end
function process:kill() self.child:kill() end

local SIGNALS <const> = {
  [9] = "was killed", [24] = "used more of the processor than its limit", [31] =
  "asked for what its sandbox does not allow", [11] = "crashed",
}
local CODES <const> = {
  [2] = "lost its node", [3] = "used more memory than its limit", [4] = "failed inside",
  [5] = "could not set up its sandbox",
}

-- How it ended, for people; nil while it runs or when all was well.
function process:why_ended()
  local ended = self.child:ended()
  if not ended then return nil end
  if ended.code == 0 then return nil end
  if ended.code then return CODES[ended.code] or "ended with code " .. ended.code end
  return SIGNALS[ended.signal] or "was ended by signal " .. ended.signal
end

return process
