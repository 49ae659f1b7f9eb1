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
local text = require "exed.text"

local copy = {}

local TIMEOUT <const> = 600 -- seconds, when nobody says

-- Exit codes of the scripts. SAME is before the fence, so nothing was changed.
local SAME <const> = 10 -- it was so already
local FRESH <const> = 11 -- there was nothing before, so that no backup was made
local VERDICT <const> = { [0] = "CHANGED", [SAME] = "OK", [FRESH] = "CHANGED", default = "FAILED" }
copy.SAME, copy.FRESH = SAME, FRESH

-- Of temporary names: of this op, whose id begins with a jid. PPID is the fence's shell.
copy.TEMPORARY = [=[
dir=${dest%/*}
t=$dir/.exed-$EXED_OP.$PPID
]=]

-- What every script that receives begins with. x is what it works on, s a checksum that was made.
copy.RECEIVE = [=[
umask 077
newline='
'
no() {
  rm -rf "$t" "$t.tar"
  printf '%s\n' "$1" >&2
  exit "${bad:-1}"
}
trap 'no "it was ended while it was sent"' HUP INT TERM
sum() {
  if command -v sha256sum >/dev/null 2>&1; then
    s=$(sha256sum <"$1")
  elif command -v shasum >/dev/null 2>&1; then
    s=$(shasum -a 256 <"$1")
  elif command -v openssl >/dev/null 2>&1; then
    s=$(openssl dgst -sha256 -r <"$1")
  elif command -v sha256 >/dev/null 2>&1; then
    s=$(sha256 -q <"$1")
  else
    no 'the host has nothing to check it with: sha256sum, shasum, openssl or sha256'
  fi || return 1
  s=${s%% *}
}
receive() {
  e=$( (set -C; : >"$1") 2>&1) || no "cannot write in $dir: ${e##*: }"
  sync=conv=fsync
  dd if=/dev/null of="$1" $sync 2>/dev/null || sync=
  e=$(LC_ALL=C dd bs=65536 $sync of="$1" 2>&1) || {
    e=${e%%"$newline"*}
    no "cannot write it there: ${e##*: }"
  }
  sum "$1" || no 'what arrived cannot be read back'
  [ "$s" = "$sha256" ] || no 'what arrived is not what was sent: it was cut off or has changed'
}
[ -d "$dir/" ] || no "there is no directory ${dir:-/}"
for x in "$dir"/.exed-????????-????-????-????-????????????.*.*.*.*; do
  [ ! -e "$x" ] || find "$x" -prune -mtime +0 -exec rm -rf {} \; 2>/dev/null
done
]=]

-- One file; find says in one go whether size, mode and owner are what they should be.
local FILE <const> = [=[
[ ! -d "$dest" ] || no "$dest is a directory"
if [ -f "$dest" ] && [ ! -L "$dest" ]; then
  if [ "$(find "$dest" -prune -size "${size}c" $wanted 2>/dev/null)" ] &&
    sum "$dest" && [ "$s" = "$sha256" ]; then
    exit 10
  fi
  : "${mode:=$(stat -c %a "$dest" 2>/dev/null || stat -f %Lp "$dest" 2>/dev/null)}"
  was=$(stat -c %u:%g "$dest" 2>/dev/null || stat -f %u:%g "$dest" 2>/dev/null)
fi
receive "$t"
[ -z "$was" ] || chown "$was" "$t" 2>/dev/null
who=$owner${group:+:$group}
if [ "$who" ]; then
  e=$(chown "$who" "$t" 2>&1) || no "cannot give it to $who: ${e#chown: }"
fi
chmod "${mode:-644}" "$t" || no "cannot set mode $mode"
]=]

-- A directory, which comes as a tar archive. Contents, modes and links tell whether it is the same.
local TREE <const> = [=[
[ ! -e "$dest" ] || [ -d "$dest" ] && [ ! -L "$dest" ] || no "$dest is no directory"
receive "$t.tar"
mkdir "$t" || no "cannot make a directory in $dir"
e=$(tar -xof "$t.tar" -C "$t" 2>&1) || no "cannot unpack it there: ${e%%"$newline"*}"
rm -f "$t.tar"
who=$owner${group:+:$group}
if [ "$who" ]; then
  e=$(chown -R "$who" "$t" 2>&1) || no "cannot give it to $who: ${e#chown: }"
fi
list() {
  (
    cd "$1" || exit
    find . -type f -exec sha256sum {} +
    find . ! -type l -exec stat -c "%n %F %a ${owner:+%U} ${group:+%G}" {} +
    find . -type l -exec sh -c 'for l; do echo "$l $(readlink "$l")"; done' sh {} +
  ) 2>/dev/null | sort
}
if [ -d "$dest" ] && [ "$(list "$t" | cksum)" = "$(list "$dest" | cksum)" ]; then
  rm -rf "$t"
  exit 10
fi
]=]

-- The rename: what the fence runs at most once. A directory that is there is moved aside first.
local RENAME <const> = [=[
end=0
if [ "$backup" ]; then
  if [ -d "$dest" ] && [ ! -L "$dest" ]; then
    :
  elif [ -e "$dest" ] || [ -L "$dest" ]; then
    ln "$dest" "$backup" 2>/dev/null || cp -p "$dest" "$backup" || end=1
  else
    end=11
  fi
fi
old=
if [ "$end" != 1 ] && [ -d "$dest" ] && [ ! -L "$dest" ]; then
  old=${backup:-$dir/.exed-old-$EXED_OP}
  mv "$dest" "$old" || end=1
fi
if [ "$end" != 1 ]; then
  mv -f "$t" "$dest" || {
    end=1
    [ -z "$old" ] || mv "$old" "$dest"
  }
fi
if [ "$end" = 1 ]; then
  rm -rf "$t"
elif [ "$old" ] && [ -z "$backup" ]; then
  rm -rf "$old"
fi
exit "$end"
]=]

local RESTORE <const> = [=[
if [ "$existed" ]; then
  [ -e "$backup" ] || [ -L "$backup" ] || { echo "there is no backup $backup" >&2; exit 1; }
  if [ -d "$dest" ] && [ ! -L "$dest" ]; then rm -rf "$dest" || exit 1; fi
  mv -f "$backup" "$dest" || exit 1
elif [ -e "$dest" ] || [ -L "$dest" ]; then
  rm -rf "$dest" || exit 1
else
  exit 10
fi
]=]

-- Lines that set the variables of a script.
local function assign(values)
  local lines = {}
  for name, value in pairs(values) do
    lines[#lines + 1] = ("%s=%s\n"):format(name, text.quote { tostring(value) })
  end
  table.sort(lines)
  return table.concat(lines)
end

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
  local dir = args.dest:match "^(.*)/"
  return {
    transport = transport,
    source = { path = args.src, text = args.content, max = args.max or config.ssh.max_file },
    before = function(sent)
      local values = {
        dest = args.dest, sha256 = sent.sha256, size = sent.size, mode = args.mode or "",
        owner = args.owner or "", group = args.group or "", wanted = wanted(args), was = "",
      }
      if sent.tree and args.mode then
        return nil, "mode is for one file: what is in a directory keeps its own"
      end
      return assign(values) .. copy.TEMPORARY .. copy.RECEIVE .. (sent.tree and TREE or FILE)
    end,
    command = assign(base) .. (args.backup and "backup=$dest.exed-$EXED_OP\n" or "backup=\n")
      .. copy.TEMPORARY .. RENAME,
    after_kill = ("rm -rf %s/.exed-\"$x_o\".*"):format(text.quote { dir }),
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
    command = assign {
      dest = args.dest, backup = args.backup or "", existed = args.existed and "1" or "",
    } .. RESTORE,
    verdict = VERDICT,
    timeout = TIMEOUT,
    fence = true,
    quiet = true,
    quiet_record = true,
  }
end

return copy
