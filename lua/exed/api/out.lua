-- SPDX-License-Identifier: MIT
-- The body of an answer that may be large. What is written is gathered; an answer that stays small
-- goes out whole, with its length and, when making it failed, as an error instead. A larger one
-- becomes a stream.
--
--   out:write(text, ...)    out:flush()    sends at once, as one chunk

local out = {}
out.__index = out

local WHOLE <const> = 256 << 10 -- bytes up to which an answer is sent whole
local PIECE <const> = 64 << 10 -- bytes in a chunk, when nobody flushes
-- What is raised when the client has gone: no mistake of anybody.
out.GONE = setmetatable({}, { __tostring = function() return "the client has gone" end })
-- What is raised when a HEAD has all that it asks for: a stream has no length to be told.
out.ENOUGH = setmetatable({}, { __tostring = function() return "a HEAD has its answer" end })

-- req is the server's request; status and headers as for its respond; call (of exed.api.numbers, or
-- nil) is told when the first byte of a stream goes. The answer to a HEAD has the same head and no
-- body.
function out.new(req, status, headers, call)
  return setmetatable({
    req = req, status = status, headers = headers, started = false, parts = {}, size = 0,
    call = call,
  }, out)
end

local function joined(parts) return #parts == 1 and parts[1] or table.concat(parts) end

function out:write(text, ...)
  if ... then text = table.concat { text, ... } end
  local parts, size = self.parts, self.size + #text
  parts[#parts + 1], self.size = text, size
  if size > (self.started and PIECE or WHOLE) then self:flush() end
end

-- Makes it a stream, whose head goes out now, with what was written.
function out:begin() self:flush() end

function out:flush()
  if not self.started then
    self.started = true
    if self.call then self.call:answered() end
    if not self.req:start(self.status, self.headers) then error(out.GONE, 0) end
    if self.req.method == "HEAD" then error(out.ENOUGH, 0) end
  end
  if self.size == 0 then return end
  local text = joined(self.parts)
  self.parts, self.size = {}, 0
  if not self.req:write(text) then error(out.GONE, 0) end
end

-- Ends it so that the client sees that something is missing.
function out:cut() self.req:cut() end

-- The answer is whole.
function out:finish()
  if not self.started then
    self.req:respond(self.status, self.headers, joined(self.parts))
    return
  end
  self:flush()
  self.req:finish()
end

return out
