-- SPDX-License-Identifier: MIT
-- What a host's sh does with what is sent to it: texts for exed.ops.copy, exed.ops.deploy and
-- exed.plan.files. They want dest, and of the environment EXED_OP (a tidy text: x_o). Names beside
-- dest:
--
--   .exed-OP.PID      what try PID of op OP receives; with .tar, .was after it: its archive, and
--                     what is to be thrown away
--   .exed-old-N.OP    the directory dest (N is a checksum of its name) while op OP puts another one
--   .exed-keep-N.OP   in its place; keep: it is to become the backup
--
-- A file takes its place by one rename. A directory by one exchange, where the host's mv can do
-- that, else by two renames; they, and whoever puts right what was cut off between them, take turns
-- by a lock on the directory that they are in, where the host has flock. It ends with its holder.

local text = require "exed.text"

local sh = {}

-- Names. Each op's before and command have the fence's shell as parent, so both know them.
sh.NAMES = [=[
op=$EXED_OP
dir=${dest%/*}
t=$dir/.exed-$op.$PPID
own() {
  rm -rf "$t" "$t".*
}
all() {
  rm -rf "$dir/.exed-$op".*
}
]=]

-- What every script that receives begins with. It wants bad, the exit code when that fails, and
-- sha256; s is a checksum that was made.
sh.RECEIVE = [=[
umask 077
newline='
'
no() {
  own
  printf '%s\n' "$1" >&2
  exit "$bad"
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
for x in "$dir/.exed-$op".*; do
  p=${x#"$dir/.exed-$op."}
  [ ! -e "$x" ] || kill -0 "${p%%.*}" 2>/dev/null || rm -rf "$x"
done
]=]

-- locked COMMAND... runs it while no other copy puts a directory into its place beside this one.
-- mend puts right what was cut off between two renames, and sets n.
sh.PLACE = [=[
there() {
  [ -e "$1" ] || [ -L "$1" ]
}
is_tree() {
  [ -d "$1" ] && [ ! -L "$1" ]
}
locked() {
  if [ -r "$dir/" ] && command -v flock >/dev/null 2>&1; then
    (
      flock 9 2>/dev/null
      "$@"
    ) 9<"$dir/"
  else
    "$@"
  fi
}
mend() {
  n=$(printf %s "${dest##*/}" | cksum)
  n=${n%% *}
  for x in "$dir/.exed-old-$n".* "$dir/.exed-keep-$n".*; do
    there "$x" || continue
    kept=
    case $x in "$dir/.exed-keep-"*) kept=$dest.exed-${x#"$dir/.exed-keep-$n."} ;; esac
    if ! there "$dest"; then
      mv "$x" "$dest"
    elif [ "$kept" ] && ! there "$kept"; then
      mv "$x" "$kept"
    else
      mv "$x" "$t.was"
    fi
  done
}
]=]

-- One file; find says in one go whether size, mode and owner are what they should be.
sh.FILE = [=[
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

sh.UNPACK = [=[
receive "$t.tar"
mkdir "$t" || no "cannot make a directory in $dir"
e=$(tar -xof "$t.tar" -C "$t" 2>&1) || no "cannot unpack it there: ${e%%"$newline"*}"
rm -f "$t.tar"
]=]

-- A directory, which comes as a tar archive. Contents, modes and links tell whether it is the same.
sh.TREE = [=[
locked mend
rm -rf "$t.was"
[ ! -e "$dest" ] || [ -d "$dest" ] && [ ! -L "$dest" ] || no "$dest is no directory"
]=] .. sh.UNPACK .. [=[
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
  own
  exit 10
fi
]=]

-- swap NEW WAS KIND: NEW takes the place of the directory dest, which becomes WAS.
local SWAP <const> = [=[
swap() {
  if mv --exchange -T "$1" "$dest" 2>/dev/null; then
    [ "$1" = "$2" ] || mv "$1" "$2"
    return
  fi
  x=$dir/.exed-$3-$n.$op
  mv "$dest" "$x" || return 1
  mv "$1" "$dest" || {
    mv "$x" "$dest"
    return 1
  }
  mv "$x" "$2"
}
]=]

-- What the fence runs at most once: what has arrived takes its place.
sh.RENAME = SWAP .. [=[
put_tree() {
  mend
  if ! there "$dest"; then
    mv "$t" "$dest" || return 1
    [ -z "$backup" ] || return 11
  elif ! is_tree "$dest"; then
    echo "$dest is no directory" >&2
    return 1
  elif [ "$backup" ]; then
    swap "$t" "$backup" keep
  else
    swap "$t" "$t.was" old
  fi
}
put_file() {
  if [ -d "$dest" ]; then
    echo "$dest is a directory" >&2
    return 1
  fi
  if [ -z "$backup" ]; then
    mv -f "$t" "$dest"
  elif there "$dest"; then
    { ln "$dest" "$backup" 2>/dev/null || cp -p "$dest" "$backup"; } && mv -f "$t" "$dest"
  else
    mv -f "$t" "$dest" || return 1
    return 11
  fi
}
if is_tree "$t"; then locked put_tree; else put_file; fi
end=$?
all
exit "$end"
]=]

sh.RESTORE = SWAP .. [=[
back() {
  mend
  if [ "$existed" ]; then
    there "$backup" || {
      echo "there is no backup $backup" >&2
      return 1
    }
    if is_tree "$dest"; then
      swap "$backup" "$t.was" old
      return
    fi
    [ ! -d "$dest" ] || rm -f "$dest" || return 1
    mv -f "$backup" "$dest"
  elif there "$dest"; then
    mv "$dest" "$t.was"
  else
    return 10
  fi
}
locked back
end=$?
all
exit "$end"
]=]

-- What is left of an op that was killed, died or may not start any more.
sh.TIDY = [=[
op=$x_o
dir=${dest%/*}
t=$dir/.exed-$op.0
]=] .. sh.PLACE .. [=[
locked mend
rm -rf "$dir/.exed-$op".*
]=]

-- Lines that set the variables of a script.
function sh.assign(values)
  local lines = {}
  for name, value in pairs(values) do
    lines[#lines + 1] = ("%s=%s\n"):format(name, text.quote { tostring(value) })
  end
  table.sort(lines)
  return table.concat(lines)
end

return sh
