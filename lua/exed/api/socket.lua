-- SPDX-License-Identifier: MIT
-- The answer to a request that asks for a WebSocket (RFC 6455), with the face of exed.api.out: what
-- is written up to a flush is one message. The upgrade is answered with the first of them, so that
-- what goes wrong before is an answer of HTTP.

local out = require "exed.api.out"

local socket = {}
socket.__index = socket

local PIECE <const> = 64 << 10 -- bytes of a message that are gathered before they are sent
local VERSION <const> = "13"

-- Close codes (RFC 6455, 7.4): of an err's code, else a failure.
local NORMAL <const>, FAILED <const> = 1000, 1011
local CODES <const> = { leaving = 1001 }

local function has_token(header, token)
  for word in (header or ""):lower():gmatch "[^%s,]+" do
    if word == token then return true end
  end
  return false
end

-- Whether a request with that Upgrade header asks for a WebSocket; nil, err when it does in a way
-- that cannot be.
function socket.asked(req, upgrade)
  if req.method ~= "GET" or not has_token(upgrade, "websocket")
    or not has_token(req:header "connection", "upgrade") then
    return false
  end
  if req:header "sec-websocket-version" == VERSION then return true end
  return nil, {
    code = 426, message = "Sec-WebSocket-Version should be " .. VERSION,
    headers = { Upgrade = "websocket", ["Sec-WebSocket-Version"] = VERSION },
  }
end

-- options: of the request's upgrade.
function socket.new(req, options)
  return setmetatable({
    req = req, options = options, started = false, parts = {}, size = 0,
  }, socket)
end

local function take(self)
  local text = table.concat(self.parts)
  self.parts, self.size = {}, 0
  return text
end

local function start(self)
  if self.started then return end
  local ok, err = self.req:upgrade(self.options)
  if not ok and err.code == "invalid" then
    error({ code = "bad_request", message = err.message }, 0)
  elseif not ok then
    error(out.GONE, 0)
  end
  self.started = true
end

-- The WebSocket is there from now on.
function socket:begin() start(self) end

local function send(self, last)
  start(self)
  if not self.req:message(take(self), last) then error(out.GONE, 0) end
end

function socket:write(text, ...)
  if ... then text = table.concat { text, ... } end
  local parts, size = self.parts, self.size + #text
  parts[#parts + 1], self.size = text, size
  if size > PIECE then send(self, false) end
end

-- Ends the message.
function socket:flush() send(self, true) end

function socket:finish()
  start(self)
  self.req:close(NORMAL, "the job has ended")
end

-- Ends it so that the client knows that something is missing, and why.
function socket:cut(err)
  if not self.started then return self.req:cut() end
  err = err or { code = "leaving", message = "the node ends" }
  self.req:close(CODES[err.code] or FAILED, tostring(err.message))
end

return socket
