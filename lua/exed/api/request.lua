-- SPDX-License-Identifier: MIT
-- What handlers get besides the fields of a request.

local answer = require "exed.answer"
local stream = require "exed.follow.stream"

local request = {}
request.__index = request

-- The answer that follows a job: its rows as they come, in the form that the client accepts.
-- options: from, the id of the last row that the client has. Returns what run returns.
function request:stream(jid, options)
  return stream.answer({
    node = self.node, headers = self.headers, socket = self.socket, params = { jid = jid },
    query = { from = options and options.from },
  }, function() return answer.load(self.node, jid) end)
end

return request
