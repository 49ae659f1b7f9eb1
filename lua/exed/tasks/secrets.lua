-- SPDX-License-Identifier: MIT
-- Secrets of tasks. A task has only handles, { secret = NAME }; the values are put in their place
-- here, right before an effect is done, and taken out of what comes back. NAME is a file of [tasks]
-- secrets, or "arg.NAME": an argument that the task declares as secret. Those are kept with the job
-- sealed, and everywhere else they are ***.
--
--   secrets.hide(checker, args) -> args as anybody may see them
--   secrets.seal(node, jid, checker, values) -> what is kept of those that are secret, or nil
--   secrets.open(node, jid, kept) -> { name = text }, or nil, err
--   secrets.agree(described, args, opened, jid) -> whether a source has the same ones
--   local found = secrets.new(dir, open)  open() -> { name = text }, or nil, err: asked when needed
--   found:reveal(args) -> args with the values in place, list of them | nil, why not
--   secrets.mask(value, hidden) -> value without them: text, or plain data of texts

local json = require "exed.json"
local sys = require "exed.sys"
local text = require "exed.text"
local text_file = require "exed.text_file"

local secrets = {}
secrets.__index = secrets

local SHOWN <const> = "***"
local MAX_SIZE <const> = 64 << 10 -- bytes of a secret
local OTHERS <const> = 63 -- octal 077: what anybody but the owner may do
local LEAST_KEY <const> = 32 -- bytes of a key's file

-- ---- files --------------------------------------------------------------------------------------

local function read_private(path)
  local stat, err = sys.stat(path)
  if not stat then return nil, ("%s: %s"):format(path, err.message) end
  if stat.mode & OTHERS ~= 0 then
    return nil, ("%s: others than its owner can use it (mode %04o): chmod go-rwx %s"):format(path,
      stat.mode, path)
  end
  return text_file.read(path, MAX_SIZE)
end

-- The key of the arguments that are secret, or nil and why not.
local function key_of(node)
  local path = node.config.tasks.secret_key
  if not path then return node.dir:key() end
  local found, problem = read_private(path)
  if not found then return nil, "[tasks] secret_key: " .. problem end
  if #found < LEAST_KEY then
    return nil, ("[tasks] secret_key: %s: shorter than %d bytes"):format(path, LEAST_KEY)
  end
  return found
end

-- ---- arguments ----------------------------------------------------------------------------------

function secrets.hide(checker, args)
  local shown = {}
  for name, value in pairs(args) do
    local field = checker.by_name[name]
    shown[name] = field and field.secret and SHOWN or value
  end
  return shown
end

-- An error of the node's settings, not of the request.
local function cannot(message) return nil, { code = "failed", message = message } end

-- Returns a text for the job's hash, false when nothing is secret, or nil, err.
function secrets.seal(node, jid, checker, values)
  local private = {}
  for name, value in pairs(values) do
    local field = checker.by_name[name]
    if field and field.secret then private[name] = tostring(value) end
  end
  if not next(private) then return false end
  local key, problem = key_of(node)
  if not key then return cannot(problem) end
  return text.base64(text.seal(key, jid, json.encode(private)))
end

-- The values again, by the names of the arguments; none when nothing was kept.
function secrets.open(node, jid, kept)
  if not kept or kept == "" then return {} end
  local key, problem = key_of(node)
  if not key then return cannot(problem) end
  local found = text.unseal(key, jid, text.unbase64(kept) or "")
  if found then return json.decode(found) end
  return cannot("this node has another key than the one that sealed the secret arguments of this "
    .. "job: nodes that share a store need the same [tasks] secret_key")
end

-- Whether a task that is described so declares the same of these args as secret that are kept so.
-- opened: of secrets.open. Returns true, or nil, err.
function secrets.agree(described, args, opened, jid)
  for _, field in ipairs(described) do
    local kept = opened[field.name] ~= nil
    if args[field.name] ~= nil and kept ~= (field.secret or false) then
      return nil, { code = "stopped", message = ("the argument %s is %s now, and was %s, jid %s")
        :format(field.name, kept and "not secret" or "secret", kept and "secret" or "not", jid) }
    end
  end
  return true
end

-- ---- handles ------------------------------------------------------------------------------------

function secrets.new(dir, open) return setmetatable({ dir = dir, open = open }, secrets) end

local function lookup(self, name)
  local arg = name:match "^arg%.(.+)$"
  if arg then
    local found, err = self.open()
    if not found then return nil, err.message end
    if found[arg] then return found[arg] end
    return nil, ("the argument %s is not there, or it is no secret"):format(arg)
  end
  if not self.dir then
    return nil, ("there is no secret %s: [tasks] secrets is not set"):format(name)
  end
  if not name:find "^[%w_][%w_.-]*$" then return nil, "that is no name of a secret" end
  local found, problem = read_private(self.dir .. "/" .. name)
  if not found then return nil, ("the secret %s: %s"):format(name, problem) end
  return (found:gsub("\r?\n$", ""))
end

-- The value of a handle, which is noted; other values as they are. Raises { wrong = why }.
local function resolve(self, value, hidden)
  local name = type(value) == "table" and value.secret
  if type(name) ~= "string" then return value end
  local found, problem = lookup(self, name)
  if not found then error({ wrong = problem }, 0) end
  hidden[#hidden + 1] = found
  return found
end

local PLACES <const> = { "stdin", "content" } -- fields of operations that may be a handle
local MAPS <const> = { "env", "vars" } -- and those whose items may be

local function resolve_map(self, map, hidden, what)
  local copy = {}
  for key, value in pairs(map) do
    copy[key] = resolve(self, value, hidden)
    if copy[key] ~= value and copy[key]:find(what == "headers" and "[\r\n\0]" or "\0") then
      error({ wrong = ("%s.%s: the secret has a %s"):format(what, key,
        what == "headers" and "line break or a NUL" or "NUL byte") }, 0)
    end
  end
  return copy
end

local function with_values(self, args, hidden)
  local copy = {}
  for key, value in pairs(args) do copy[key] = value end
  copy.body = resolve(self, args.body, hidden)
  if args.headers then copy.headers = resolve_map(self, args.headers, hidden, "headers") end
  if not args.fields then return copy end
  copy.fields = {}
  for key, value in pairs(args.fields) do copy.fields[key] = value end
  for _, name in ipairs(PLACES) do
    copy.fields[name] = resolve(self, args.fields[name], hidden)
  end
  for _, name in ipairs(MAPS) do
    local map = args.fields[name]
    if type(map) == "table" then copy.fields[name] = resolve_map(self, map, hidden, name) end
  end
  return copy
end

local function has_handle(map)
  for _, value in pairs(map) do
    if type(value) == "table" and value.secret then return true end
  end
  return false
end

local NONE <const> = {}

function secrets:reveal(args)
  local fields = args.fields or NONE
  local any = has_handle(args) or has_handle(fields) or args.headers and has_handle(args.headers)
  for _, name in ipairs(MAPS) do
    any = any or type(fields[name]) == "table" and has_handle(fields[name])
  end
  if not any then return args, NONE end -- nearly always
  local hidden = {}
  local ok, found = pcall(with_values, self, args, hidden)
  if ok then return found, hidden end
  if type(found) == "table" and found.wrong then return nil, found.wrong end
  error(found, 0)
end

-- ---- what comes back ----------------------------------------------------------------------------

local function mask_text(value, hidden)
  for _, secret in ipairs(hidden) do
    local at, pieces = 1, {}
    while #secret > 0 do
      local from, to = value:find(secret, at, true)
      if not from then break end
      pieces[#pieces + 1], at = value:sub(at, from - 1), to + 1
    end
    if at > 1 then value = table.concat(pieces, SHOWN) .. SHOWN .. value:sub(at) end
  end
  return value
end

-- A text that was cut may end with the beginning of a secret.
local function mask_end(value, hidden)
  for _, secret in ipairs(hidden) do
    for n = math.min(#secret - 1, #value), 1, -1 do
      if value:sub(-n) == secret:sub(1, n) then return value:sub(1, -n - 1) .. SHOWN end
    end
  end
  return value
end

local function mask(value, hidden, cut)
  if type(value) == "string" then
    value = mask_text(value, hidden)
    return cut and mask_end(value, hidden) or value
  end
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for key, item in pairs(value) do
    copy[mask(key, hidden)] = mask(item, hidden, value.truncated)
  end
  return copy
end

function secrets.mask(value, hidden)
  if #hidden == 0 then return value end
  local longest_first = table.move(hidden, 1, #hidden, 1, {})
  table.sort(longest_first, function(a, b) return #a > #b end)
  return mask(value, longest_first)
end

return secrets
