-- SPDX-License-Identifier: MIT
-- What handlers get besides the fields of a request.

local answer = require "exed.answer"
local stream = require "exed.follow.stream"

local request = {}

-- Taken over from the server's request when a handler asks for them: most never do.
local LATE <const> = { method = true, path = true, peer = true, headers = true }

function request.__index(self, name)
  if not LATE[name] then return request[name] end
  local value = self.server_request[name]
  self[name] = value
  return value
end

-- One header; nil when the request has none of that name.
function request:header(name) return self.server_request:header(name) end

-- The answer that follows a job: its rows as they come, in the form that the client accepts.
-- options: from, the id of the last row that the client has. Returns what run returns.
function request:stream(jid, options)
  return stream.answer({
    node = self.node, headers = self.headers, socket = self.socket, params = { jid = jid },
    query = { from = options and options.from },
  }, function() return answer.load(self.node, jid) end)
end

return request
