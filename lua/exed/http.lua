-- SPDX-License-Identifier: MIT
-- Requests to other HTTP servers.
--
--   http.get(url, opts), http.post(url, opts), http.request([method,] url, opts)
--     -> answer: status, headers (by lower-case name), body (at most 1 MiB, then truncated = true),
--        json (the body's value; nil when it is no JSON)
--     -> nil, err (code, message) when there was no answer; a 500 is an answer, and so is a 302:
--        redirects are not followed
--   http.open(method, url, opts) -> stream, for answers of any length: status, headers;
--     stream:read(seconds) -> text, nil at the end, or nil, err; what is not read is not sent
--     stream:lines(seconds) iterates over lines, stream.failed says why it ended early
--     stream:close(), and <close>
--
-- opts: timeout (30 s; 5, "500ms", "2m"), headers, body or json, retries (0) when there was no
-- answer, delay (2 s) before the first, times backoff (2) before each next, at most 60 s;
-- repeatable: a POST or PATCH may reach the server twice (an Idempotency-Key says so too);
-- proxy: use the environment's; ca, cert, key: PEM files; socket: a unix socket to connect to.
-- Of open also idle: how long nothing may come. What is wrong with them raises.

local client = require "exed.http.client"
local json = require "exed.json"
local timer = require "exed.timer"
local types = require "exed.schema.types"
local words = require "exed.words"

local http = {}

local REPEATABLE <const> = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true }
local MAX_DELAY <const> = 60 -- seconds
local MAX_LINE <const> = 256 << 20 -- bytes of one line of a stream

-- Misuse is raised with the line of whoever called http.get and the like (call, below).
local function misused(text) error({ misuse = "http: " .. text }, 0) end

local function wrong(field, want) misused(("option %s: %s"):format(field, want)) end

local function call(fn, ...)
  local found = table.pack(pcall(fn, ...))
  if found[1] then return table.unpack(found, 2, found.n) end
  local problem = found[2]
  if type(problem) == "table" and problem.misuse then error(problem.misuse, 2) end
  error(problem, 0)
end

-- ---- options ------------------------------------------------------------------------------------

local function read_as(kind)
  return function(value, field, most)
    local found, want = types.readers[kind](value)
    if found == nil then wrong(field, want .. " is wanted") end
    if most and (found < 0 or found > most) then wrong(field, "from 0 to " .. most) end
    return found
  end
end

local duration, integer, number = read_as "duration", read_as "integer", read_as "number"

local function text(value, field)
  if type(value) ~= "string" then wrong(field, "text is wanted") end
  return value
end

local function flag(value, field)
  if type(value) ~= "boolean" then wrong(field, "true or false is wanted") end
  return value
end

local function add_header(lines, name, value)
  if type(value) == "number" then value = tostring(value) end
  if type(name) ~= "string" or type(value) ~= "string" then
    wrong("headers", "a table of names and texts (or lists of texts) is wanted")
  end
  lines[#lines + 1] = name .. ": " .. value
end

local function headers(value)
  local lines = {}
  if type(value) ~= "table" then wrong("headers", "a table is wanted") end
  for _, name in ipairs(words.keys(value)) do
    local found = value[name]
    if type(found) == "table" then
      for _, one in ipairs(found) do add_header(lines, name, one) end
    else
      add_header(lines, name, found)
    end
  end
  return lines
end

local readers = {
  timeout = duration, idle = duration, delay = duration, headers = headers, body = text,
  proxy = flag, repeatable = flag, ca = text, cert = text, key = text, socket = text,
  retries = function(value, field) return integer(value, field, 100) end,
  backoff = function(value, field) return number(value, field, 100) end,
  json = function(value, field)
    local ok, encoded = pcall(json.encode, value)
    if not ok then wrong(field, encoded) end
    return encoded
  end,
}

local function has_header(lines, name)
  for _, line in ipairs(lines) do
    if line:sub(1, #name + 1):lower() == name .. ":" then return true end
  end
  return false
end

-- What the client takes, and how often it is tried.
local function read_options(method, url, opts)
  if type(method) ~= "string" then misused "method: text is wanted" end
  if type(url) ~= "string" then misused "url: text is wanted" end
  if opts ~= nil and type(opts) ~= "table" then misused "options: a table is wanted" end
  local spec = { method = method, url = url, headers = {}, delay = 2, backoff = 2, retries = 0 }
  for name, value in pairs(opts or {}) do
    local reader = readers[name]
    if not reader then
      local hint = words.hint(name, words.keys(readers))
      misused(("option %s is not known%s"):format(tostring(name), hint))
    end
    spec[name] = reader(value, name)
  end
  if spec.json then
    if spec.body then wrong("json", "there is a body too") end
    spec.body = spec.json
    if not has_header(spec.headers, "content-type") then
      table.insert(spec.headers, "Content-Type: application/json")
    end
  end
  if spec.repeatable == nil then
    spec.repeatable = REPEATABLE[method] or has_header(spec.headers, "idempotency-key")
  end
  return spec
end

-- ---- answers ------------------------------------------------------------------------------------

local answer_meta = {}

-- `json` is decoded when it is first asked for.
function answer_meta.__index(answer, name)
  if name ~= "json" or answer.truncated then return nil end
  local value = json.decode(answer.body)
  rawset(answer, "json", value)
  return value
end

local function ask(fn, spec)
  local found, err = fn(spec)
  if err and err.code == "invalid" then misused(err.message) end
  return found, err
end

local function may_repeat(spec, err)
  return (spec.repeatable or not err.sent) and err.code ~= "refused" and err.code ~= "protocol"
    and err.code ~= "limit"
end

local function request(method, url, opts)
  local spec = read_options(method, url, opts)
  local delay = spec.delay
  for attempt = 0, spec.retries do
    local answer, err = ask(client.request, spec)
    if answer then return setmetatable(answer, answer_meta) end
    if attempt == spec.retries or not may_repeat(spec, err) then return nil, err end
    timer.sleep(math.min(delay, MAX_DELAY))
    delay = math.min(delay * spec.backoff, MAX_DELAY)
  end
end

function http.get(url, opts) return call(request, "GET", url, opts) end

function http.post(url, opts) return call(request, "POST", url, opts) end

-- http.request(url, opts) is a GET.
function http.request(method, url, opts)
  if type(url) ~= "string" then method, url, opts = "GET", method, url end
  return call(request, method, url, opts)
end

-- ---- streams ------------------------------------------------------------------------------------

local stream = {}
stream.__index = stream

function stream:read(seconds) return self.source:read(seconds) end

function stream:close() self.source:close() end

stream.__close = stream.close

-- The next whole line, without its end; nil at the end, nil, err. A last line without an end is not
-- whole, and is left out. self.parts: the pieces of a line that has begun; its size so far.
local function next_line(self, seconds)
  while true do
    local from, to = self.piece:find("\n", self.at, true)
    self.parts[#self.parts + 1] = self.piece:sub(self.at, from and from - 1)
    self.size = self.size + #self.parts[#self.parts]
    if self.size > self.max_line then
      return nil, {
        code = "limit", message = ("a line is longer than %d bytes"):format(self.max_line),
      }
    end
    if from then
      local line = table.concat(self.parts)
      self.parts, self.size, self.at = {}, 0, to + 1
      return line
    end
    local piece, err = self.source:read(seconds)
    self.piece, self.at = piece or "", 1
    if not piece then return nil, err end
  end
end

function stream:lines(seconds)
  return function()
    local line, err = next_line(self, seconds)
    self.failed = err
    return line
  end
end

local function open(method, url, opts)
  local spec = read_options(method, url, opts)
  local source, err = ask(client.open, spec)
  if not source then return nil, err end
  return setmetatable({
    source = source, status = source:status(), headers = source:headers(),
    parts = {}, size = 0, piece = "", at = 1, max_line = MAX_LINE,
  }, stream)
end

function http.open(method, url, opts) return call(open, method, url, opts) end

return http
