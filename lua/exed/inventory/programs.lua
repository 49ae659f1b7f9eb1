-- SPDX-License-Identifier: MIT
-- Executables that print an inventory as Ansible's JSON: `PROGRAM --list` prints groups, and in
-- _meta.hostvars the variables of the hosts; without that, `PROGRAM --host NAME` prints those of
-- one. They run beside the loop, with a clean environment, a time limit and a bound on what they
-- print, and not again before `period` has passed, whatever became of them.

local value = require "exed.inventory.value"
local words = require "exed.words"

local programs = {}
programs.__index = programs

local MAX_ASKED <const> = 500 -- hosts that are asked for one by one
local MAX_STDERR <const> = 300 -- bytes of it that are told
local OTHERS_WRITE <const> = 18 -- mode bits: group and others may write

-- options:
--   run      function of exed.proc.run
--   now      function -> seconds that never go back
--   stat     as for the holder; owner() -> the user that this process runs as
--   period   seconds between two runs; timeout: seconds of one; max: bytes that it may print
function programs.new(options)
  return setmetatable({ options = options, known = {} }, programs)
end

local SETTINGS <const> = {
  period = "program_period", timeout = "program_timeout", max = "program_output",
}

-- The same with real programs and the limits of [inventory], as they are then.
function programs.standard()
  local sys, config = require "exed.sys", require "exed.config"
  return programs.new(setmetatable({
    run = require("exed.proc").run, now = require("exed.timer").now, stat = sys.stat,
    owner = function() return sys.stat("/proc/self").uid end,
  }, { __index = function(_, name)
    return SETTINGS[name] and config.inventory[SETTINGS[name]]
  end }))
end

-- ---- running ------------------------------------------------------------------------------------

local function refuse(text, ...) error(text:format(...), 0) end

-- Nobody else may decide what runs here as this user.
local function check_writers(self, path, found)
  local me = self.options.owner()
  local directory = path:match "^(.*)/[^/]*$" or "."
  if directory == "" then directory = "/" end
  local around = self.options.stat(directory) or {}
  local sticky = (around.mode or 0) & 512 ~= 0
  local others = { { found, "it" }, { sticky and {} or around, "its directory" } }
  for _, item in ipairs(others) do
    local what, name = item[1], item[2]
    if what.uid and what.uid ~= 0 and what.uid ~= me then
      refuse("is not run: %s belongs to another user (uid %d)", name, what.uid)
    end
    if what.mode and what.mode & OTHERS_WRITE ~= 0 then
      refuse("is not run: others than its owner may write to %s (mode %o)", name, what.mode)
    end
  end
end

local function told(result)
  local text = result.stderr:match "^%s*(.-)%s*$"
  if text == "" then return "" end
  if #text > MAX_STDERR then text = "..." .. text:sub(-MAX_STDERR) end
  return ": " .. text:gsub("[%c\127]+", " ")
end

local function run(self, path, deadline, ...)
  local o = self.options
  local left = deadline - o.now()
  local name = path:find "/" and path or "./" .. path
  if left <= 0 then refuse("did not end within %g s", o.timeout) end
  local result, err = o.run {
    argv = { name, ... }, clean = true, timeout = left, max = o.max,
    env = {
      PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME = os.getenv "HOME" or "/", LANG = "C.UTF-8",
    },
  }
  if not result then refuse("cannot be run: %s", err.message) end
  if result.timed_out then refuse("did not end within %g s%s", o.timeout, told(result)) end
  if result.truncated then refuse("printed more than %d bytes", o.max) end
  if result.signal then refuse("was ended by SIG%s%s", result.signal, told(result)) end
  if result.code ~= 0 then refuse("ended with code %d%s", result.code, told(result)) end
  return result.stdout, result
end

local function decode(text, result, what)
  local json = require "exed.json"
  value.use(json)
  local found, err = json.decode(text)
  if type(found) ~= "table" or json.is_array(found) then
    refuse("%s is no JSON object%s%s", what, err and " (" .. err.message .. ")" or "", told(result))
  end
  return found
end

local function has_hostvars(document)
  return type(document._meta) == "table" and document._meta.hostvars ~= nil
end

-- The names of the hosts that a document has, in its order, each once.
local function hosts_of(document)
  local list, seen = {}, {}
  for _, name in ipairs(words.keys(document)) do
    local group = document[name]
    local hosts = type(group) == "table" and (group.hosts or group) or {}
    for _, host in ipairs(type(hosts) == "table" and hosts or {}) do
      if type(host) == "string" and not seen[host] then
        seen[host] = true
        list[#list + 1] = host
      end
    end
  end
  return list
end

-- Asks for the hosts one by one. Returns their variables by name, and all that was printed.
local function ask_hosts(self, path, deadline, document)
  local list, vars, texts = hosts_of(document), {}, {}
  if #list > MAX_ASKED then
    refuse("prints no _meta.hostvars, and %d hosts are too many to ask for one by one (%d)", #list,
      MAX_ASKED)
  end
  for i, name in ipairs(list) do
    if name:find "^%-" then
      refuse("a host name must not begin with '-', got %s", words.show(name))
    end
    local text, result = run(self, path, deadline, "--host", name)
    vars[name] = text:find "%S" and decode(text, result, "what --host printed") or {}
    texts[i] = text
  end
  return vars, table.concat(texts, "\0")
end

-- One whole run: { text, document, vars }. Raises a text.
local function ask(self, path, found)
  check_writers(self, path, found)
  local deadline = self.options.now() + self.options.timeout
  local text, result = run(self, path, deadline, "--list")
  local document = decode(text, result, "what it printed")
  local answer = { text = text, document = document }
  if has_hostvars(document) then
    answer.vars = document._meta.hostvars
  else
    local more
    answer.vars, more = ask_hosts(self, path, deadline, document)
    answer.text = text .. "\0" .. more
  end
  return answer
end

local function answer_of(self, path, found)
  local known = self.known[path]
  local now = self.options.now()
  if known and now - known.at < self.options.period then return known end
  local ok, answer = pcall(ask, self, path, found)
  if not ok and type(answer) ~= "string" then error(answer, 0) end
  if not ok then answer = { problem = answer } end
  answer.at = now
  self.known[path] = answer
  return answer
end

-- Runs again what is due. Returns true when one of them says something else than before.
function programs:changed()
  for _, path in ipairs(words.keys(self.known)) do
    local before, found = self.known[path], self.options.stat(path)
    local after = found and answer_of(self, path, found) or before
    if after.text ~= before.text or after.problem ~= before.problem then return true end
  end
  return false
end

-- ---- reading ------------------------------------------------------------------------------------

local function set_vars(builder, owner, vars)
  for _, name in ipairs(words.keys(vars)) do
    local found = vars[name]
    if type(found) == "table" and found.__ansible_vault ~= nil then
      builder:block(owner, name,
        "is encrypted by ansible-vault and left out, exed has no key for it")
    else
      local unsafe = type(found) == "table" and found.__ansible_unsafe
      builder:set(owner, name, unsafe or found)
    end
  end
end

local function is_list(found)
  return type(found) == "table" and (#found > 0 or getmetatable(found) == value.array_mt)
end

local function is_map(found) return type(found) == "table" and not is_list(found) end

local function want(builder, ok, group, part, what)
  if not ok then builder:fail(nil, "'%s' of the group '%s' must be %s", part, group, what) end
end

-- A group: a list of hosts, or { hosts, vars, children }, or the variables of a host of that name.
local function read_group(builder, name, data)
  local group = builder:group(name)
  if is_list(data) then data = { hosts = data } end
  want(builder, is_map(data), name, "the value", "a list of hosts or an object")
  if data.hosts == nil and data.vars == nil and data.children == nil then
    data = { hosts = value.array { name }, vars = data }
  end
  want(builder, data.hosts == nil or is_list(data.hosts), name, "hosts", "a list of names")
  want(builder, data.vars == nil or is_map(data.vars), name, "vars", "an object")
  want(builder, data.children == nil or is_list(data.children), name, "children", "a list of names")
  for _, host in ipairs(data.hosts or {}) do
    want(builder, type(host) == "string", name, "hosts", "a list of names")
    builder:add_host(host, group)
  end
  set_vars(builder, group, data.vars or {})
  for _, child in ipairs(data.children or {}) do
    want(builder, type(child) == "string", name, "children", "a list of names")
    builder:add_child(group, builder:group(child))
  end
end

-- Runs the program, unless that was done lately, and reads what it printed into the builder.
-- Raises the builder's error.
function programs:read(builder, path, found)
  local answer = answer_of(self, path, found)
  builder:enter(path)
  if answer.problem then builder:fail(nil, "%s", answer.problem) end
  for _, name in ipairs(words.keys(answer.document)) do
    if name ~= "_meta" then read_group(builder, name, answer.document[name]) end
  end
  if not is_map(answer.vars) then builder:fail(nil, "_meta.hostvars must be an object") end
  for _, name in ipairs(words.keys(answer.vars)) do
    local host, vars = builder.host_by[name], answer.vars[name]
    builder:step()
    if vars ~= value.null and not is_map(vars) then
      builder:fail(nil, "the variables of the host %s must be an object", words.show(name))
    end
    if host and vars ~= value.null then set_vars(builder, host, vars) end
  end
end

return programs
