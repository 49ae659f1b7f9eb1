-- SPDX-License-Identifier: MIT
-- What `exed` runs: one node, from start to end.

local config = require "exed.config"
local log = require "exed.log"
local node = require "exed.node"

local self, err = node.start()
if not self then
  local file = config.log.error_log
  if file and file ~= "-" then log.error("node", "cannot start: %s", err.message) end
  error({ code = err.code, message = "exed: " .. err.message })
end
self:serve()
