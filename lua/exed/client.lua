-- SPDX-License-Identifier: MIT
-- Speaks to a running exed over its API.
--
--   local node = client.new { server =, token_file =, ca =, cert =, key =, dir = }    or nil, err
--     server: http://HOST:PORT, https://HOST:PORT or unix:///PATH; without one, exed.sock in the
--     state directory `dir`, or where exed keeps its state by default
--   node.name                                what it speaks to, for people
--   node:ask("GET", "/jobs") -> value | nil, err          node:ask("POST", path, body)
--   node:open(path, { headers, idle }) -> stream of exed.http | nil, err
--
-- err: code, message; away: nobody answers, or not now; status and answer (its value): of an answer
-- that says no.

local http = require "exed.http"
local json = require "exed.json"
local state = require "exed.state"
local sys = require "exed.sys"

local client = {}
client.__index = client

local TIMEOUT <const> = 30 -- seconds until an answer begins, and between its pieces
local MAX_ANSWER <const> = 64 << 20 -- bytes of an answer that is read whole
local MAX_TOKEN <const> = 4096

local function bad(text, ...) return nil, { code = "usage", message = text:format(...) } end

-- The token of the first line that is neither empty nor a comment; a NAME: before it, as exed's own
-- file may have, is left out.
local function read_token(path)
  local file, problem = io.open(path)
  if not file then return bad("token file %s", problem) end
  local text = file:read(MAX_TOKEN) or ""
  file:close()
  for line in text:gmatch "[^\r\n]+" do
    local token = line:match "^%s*(.-)%s*$"
    token = token:match "^[%w%._@-]+:%s+(%S+)$" or token
    if token ~= "" and not token:find "^#" then
      if token:find "[^\x21-\x7e]" then return bad("token file %s: no token in it", path) end
      return token
    end
  end
  return bad("token file %s: no token in it", path)
end

-- Where the server is: base of URLs, socket, name, or nil, err. What it says of a URL leaves out a
-- password in it.
local function find_server(server, dir)
  if not server then
    local path = state.path(dir) .. "/exed.sock"
    return { base = "http://exed", socket = path, name = "unix://" .. path, default = true }
  end
  local path = server:match "^unix://(/.*)$"
  if path then return { base = "http://exed", socket = path, name = "unix://" .. path } end
  local base = server:match "^(https?://[^/?#%s%c][^?#%s%c]*)$"
  if not base then return bad "server: http://HOST:PORT, https://HOST:PORT or unix:///PATH" end
  if base:find "^https?://[^/]*@" then
    return bad "server: no password in a URL, others can see it; name a token file"
  end
  base = base:gsub("/+$", "")
  return { base = base, name = base }
end

function client.new(opts)
  local self, err = find_server(opts.server, opts.dir)
  if not self then return nil, err end
  self.headers = {}
  if opts.token_file then
    local token
    token, err = read_token(opts.token_file)
    if not token then return nil, err end
    self.headers.Authorization = "Bearer " .. token
  end
  self.ca, self.cert, self.key = opts.ca, opts.cert, opts.key
  return setmetatable(self, client)
end

-- Why nobody answers, and what to do.
local function explain_silence(self, err)
  local why = err.message
  if self.socket and not sys.stat(self.socket) then why = "there is no such socket" end
  local hint = self.default and "start it with `exed`, or name one with --server URL"
    or "is it the right address?"
  return {
    code = "away", away = true, message = ("no exed answers at %s: %s; %s")
      :format(self.name, why, hint),
  }
end

local function explain_refusal(self, stream, value)
  local message = type(value) == "table" and value.message
  if type(message) ~= "string" then
    message = ("%s does not answer as exed does (status %d)"):format(self.name, stream.status)
  end
  if stream.status == 401 then message = message .. " (name a file with it: --token-file FILE)" end
  return {
    code = "refused", status = stream.status, message = message, answer = value,
    away = stream.status == 503 or stream.status == 502 or stream.status == 504,
    retry_after = tonumber(stream.headers["retry-after"]),
  }
end

local function read_all(stream)
  local pieces, size = {}, 0
  while true do
    local piece, err = stream:read(TIMEOUT)
    if err then return nil, err end
    if not piece then return table.concat(pieces) end
    size = size + #piece
    if size > MAX_ANSWER then
      return nil, {
        code = "limit", message = ("the answer is longer than %d MiB"):format(MAX_ANSWER >> 20),
      }
    end
    pieces[#pieces + 1] = piece
  end
end

-- The stream of an answer whose status is 2xx; nil, err.
local function open(self, method, path, opts)
  local headers = {}
  for name, value in pairs(self.headers) do headers[name] = value end
  for name, value in pairs(opts.headers or {}) do headers[name] = value end
  local stream, err = http.open(method, self.base .. path, {
    headers = headers, json = opts.body, timeout = TIMEOUT, idle = opts.idle, socket = self.socket,
    ca = self.ca, cert = self.cert, key = self.key,
  })
  if not stream then return nil, explain_silence(self, err) end
  if stream.status >= 200 and stream.status < 300 then return stream end
  local text = read_all(stream)
  stream:close()
  return nil, explain_refusal(self, stream, text and json.decode(text))
end

function client:open(path, opts) return open(self, "GET", path, opts or {}) end

-- The value that is answered (true for an empty answer), or nil, err.
function client:ask(method, path, body)
  local stream <close>, err = open(self, method, path, { body = body })
  if not stream then return nil, err end
  local text
  text, err = read_all(stream)
  if not text then return nil, err end
  if text == "" then return true end
  local value, problem = json.decode(text)
  if problem then
    return nil, {
      code = "failed", message = ("%s answers what is no JSON: %s"):format(self.name,
        problem.message),
    }
  end
  return value
end

return client
