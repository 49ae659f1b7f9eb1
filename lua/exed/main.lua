-- SPDX-License-Identifier: MIT
-- What `exed` runs: one node, from start to end.

local config = require "exed.config"
local log = require "exed.log"
local node = require "exed.node"
local sys = require "exed.sys"

-- Ends the program with a message on standard error; the log's file has it too.
local function give_up(message)
  local file = config.log.error_log
  if file and file ~= "-" then log.error("node", "cannot start: %s", message) end
  error { code = "failed", message = "exed: " .. message }
end

-- Writes [api] pid_file, when there is one. What it returns takes the file away when it is closed.
local function write_pid_file()
  -- A worker may share the file of settings with a node that answers HTTP.
  local path = config.runner.role ~= "worker" and config.api.pid_file or nil
  if not path or path == "" then return nil end
  local file, err = io.open(path, "w")
  if not file then give_up("[api] pid_file: " .. err) end
  file:write(sys.pid(), "\n")
  file:close()
  return setmetatable({}, { __close = function() os.remove(path) end })
end

local self, err = node.start()
if not self then give_up(err.message) end
local _ <close> = write_pid_file()
sys.ready()
self:serve()
