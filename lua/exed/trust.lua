-- SPDX-License-Identifier: MIT
-- Whether a file that says what is run can be trusted: only its owner and root may write it and the
-- directory that it is in. What is shipped is not looked at: it is as safe as the program beside
-- it, and a checkout or an archive that was unpacked with umask 002 must work.

local sys = require "exed.sys"

local trust = {}

local OTHERS <const> = 18 -- octal 022: writable by the group or by all

local function is_shipped(path)
  local share = sys.share() .. "/"
  if path:sub(1, #share) ~= share then return false end
  local folder = path:match("^[^/]+", #share + 1)
  return folder == "lua" or folder == "executors" or folder == "tasks"
end

local function reason(path, stat)
  if stat.mode & OTHERS == 0 then return nil end
  return ("%s: others than its owner can write it (mode %04o): chmod go-w %s"):format(path,
    stat.mode, path)
end

-- Why a file is not trusted, or nil. stat: of sys.stat.
function trust.why_not(path, stat)
  if is_shipped(path) then return nil end
  local dir = path:match "^(.*)/[^/]*$" or "."
  local found = sys.stat(dir)
  return reason(path, stat) or found and reason(dir, found) or nil
end

return trust
