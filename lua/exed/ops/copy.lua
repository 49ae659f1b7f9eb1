-- SPDX-License-Identifier: MIT
-- Sending a file or a directory to hosts, and putting back what was there before: the operations
-- copy and restore, which the executors ssh and local share.
--
--   copy.plan("ssh", request.args) -> plan | nil, message
--     args: dest, and one of src (a file or directory of this node) and content (text); mode,
--     owner, group, backup, max (bytes; default [ssh] max_file)
--   copy.restore("ssh", request.args) -> plan | nil, message    args: dest, backup, existed
--
-- What is sent is the stdin of one command: it goes into a temporary file beside the target, its
-- checksum is compared there, and only then does the op take its place in its fence and rename it.
-- So half of a file is never in place, and a copy that was cut off is begun again; the rename is
-- settled by its op id. It works as another user (sudo), and where there is no SFTP server.

local config = require "exed.config"
local sh = require "exed.ops.copy_sh"

local copy = {}

local TIMEOUT <const> = 600 -- seconds, when nobody says

-- Exit codes of the scripts. SAME is before the fence, so nothing was changed.
local SAME <const> = 10 -- it was so already
local FRESH <const> = 11 -- there was nothing before, so that no backup was made
local VERDICT <const> = { [0] = "CHANGED", [SAME] = "OK", [FRESH] = "CHANGED", default = "FAILED" }
copy.SAME, copy.FRESH = SAME, FRESH

-- What find is asked about a file that is there.
local function wanted(args)
  local words = {}
  for option, value in pairs { perm = args.mode, user = args.owner, group = args.group } do
    words[#words + 1] = ("-%s %s"):format(option, value)
  end
  table.sort(words)
  return table.concat(words, " ")
end

local function check(args)
  local dest = args.dest
  if type(dest) ~= "string" or not dest:find "^/" then return "dest must be an absolute path" end
  if dest:find "/$" then return "dest names a directory: the name of the file is wanted, too" end
  if dest:find "%z" or #dest > 4000 then return "dest is no path" end
  if args.mode and not tostring(args.mode):find "^[0-7][0-7][0-7][0-7]?$" then
    return 'mode must be octal digits in quotes, like "0644"'
  end
  for _, name in ipairs { "owner", "group" } do
    if args[name] and not tostring(args[name]):find "^[%w_][%w_.-]*%$?$" then
      return name .. " is no name"
    end
  end
end

-- The name that a backup gets: the op's, so that each copy has its own.
function copy.backup_name(dest, op_id) return ("%s.exed-%s"):format(dest, op_id) end

-- How it is done over that transport. The plan's `before` is a function of what is sent, and
-- `source` says what that is: exed.sending does the rest.
function copy.plan(transport, args)
  local wrong = check(args)
  if wrong then return nil, wrong end
  local base = { dest = args.dest }
  return {
    transport = transport,
    source = { path = args.src, text = args.content, max = args.max or config.ssh.max_file },
    before = function(sent)
      local values = {
        dest = args.dest, sha256 = sent.sha256, size = sent.size, mode = args.mode or "",
        owner = args.owner or "", group = args.group or "", wanted = wanted(args), was = "",
        bad = 1,
      }
      if sent.tree and args.mode then
        return nil, "mode is for one file: what is in a directory keeps its own"
      end
      return sh.assign(values) .. sh.NAMES .. sh.RECEIVE
        .. (sent.tree and sh.PLACE .. sh.TREE or sh.FILE)
    end,
    command = sh.assign(base) .. (args.backup and "backup=$dest.exed-$EXED_OP\n" or "backup=\n")
      .. sh.NAMES .. sh.PLACE .. sh.RENAME,
    tidy = sh.assign(base) .. sh.TIDY,
    verdict = VERDICT,
    timeout = TIMEOUT,
    fence = true,
    quiet = true,
    quiet_record = true,
    tell_code = args.backup or nil,
  }
end

function copy.restore(transport, args)
  local wrong = check(args)
  if wrong then return nil, wrong end
  return {
    transport = transport,
    command = sh.assign {
      dest = args.dest, backup = args.backup or "", existed = args.existed and "1" or "",
    } .. sh.NAMES .. sh.PLACE .. sh.RESTORE,
    tidy = sh.assign { dest = args.dest } .. sh.TIDY,
    verdict = VERDICT,
    timeout = TIMEOUT,
    fence = true,
    quiet = true,
    quiet_record = true,
  }
end

return copy
