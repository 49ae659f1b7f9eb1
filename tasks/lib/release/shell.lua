-- SPDX-License-Identifier: MIT
-- What runs on a host that has releases: POSIX sh, sent on standard input, with what it is about as
-- arguments. $app, the directory of an app, has in it
--
--   releases/NAME    one directory for each release that is kept
--   current          a link to the one that is live: releases/NAME
--   shared/          what all releases have in common
--   .release/        before/NAME: what was live before NAME; source/NAME: what it was made of;
--                    repo.git: what was fetched of a repository
local shell = {}

local COMMON <const> = [[
set -eu
LC_ALL=C
export LC_ALL

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# Sets live to the name of the release that is live, or to nothing.
read_live() {
	live=
	if [ -L "$app/current" ]; then
		live=$(readlink "$app/current")
		case $live in
		"$app"/releases/*) live=${live#"$app"/releases/} ;;
		releases/*) live=${live#releases/} ;;
		*) die "$app/current leads to $live, which is no release of it" ;;
		esac
		case $live in
		'' | .* | */*) die "$app/current leads to $live, which is no release of it" ;;
		esac
	elif [ -e "$app/current" ]; then
		die "$app/current is not a link"
	fi
}

# Sets before to what was live before the release that is live, or to nothing.
read_before() {
	before=
	if [ -n "$live" ] && [ -f "$app/.release/before/$live" ]; then
		before=$(cat "$app/.release/before/$live")
	fi
}

show_both() {
	read_before
	printf 'live: %s\nbefore: %s\n' "${live:--}" "${before:--}"
}

# Puts $1 in the place of $2, which nobody sees missing or half.
replace() {
	mv -fT "$1" "$2" 2>/dev/null || mv -fh "$1" "$2" 2>/dev/null || die "cannot rename $1 to $2"
}
]]

local RUN <const> = [[
run() {
	verb=$1 app=$2
	shift 2
	case $app in '~/'*) app=$HOME/${app#??} ;; esac
	"$verb" "$@"
}
run "$@" </dev/null
exit
]]

-- The words of a command that runs `verb` of a script with these arguments, and its input. Nothing
-- that runs in it can read the script away.
function shell.command(script, verb, ...)
  local words = { "sh", "-s", "--", verb }
  for _, argument in ipairs { ... } do words[#words + 1] = tostring(argument) end
  words.stdin = COMMON .. script .. RUN
  return words
end

local LOOK <const> = [[
# Which release is live: its name, or -.
live() {
	read_live
	printf '%s\n' "${live:--}"
}

# Which release is live, and which was before it.
look() {
	read_live
	show_both
}
]]

-- In app, the release that is live.
function shell.live(app) return shell.command(LOOK, "live", app) end

-- In app, the release that is live, and the one before it.
function shell.look(app) return shell.command(LOOK, "look", app) end

local SWITCH <const> = [[
# switch TO FROM new|back
switch() {
	to=$1 from=$2
	read_live
	if [ "$live" = "$to" ]; then exit 0; fi
	[ "$live" = "$from" ] || die "${live:-nothing} is live, not ${from:-nothing}: who changed it?"
	if [ -z "$to" ]; then
		rm -f "$app/current"
		exit 0
	fi
	[ -d "$app/releases/$to" ] || die "$app/releases/$to is not there"
	if [ "$3" = new ]; then
		mkdir -p "$app/.release/before"
		printf '%s\n' "$from" >"$app/.release/.before"
		replace "$app/.release/.before" "$app/.release/before/$to"
	fi
	touch "$app/releases/$to"
	rm -f "$app/.release/.current"
	ln -s "releases/$to" "$app/.release/.current"
	replace "$app/.release/.current" "$app/current"
}
]]

-- Makes `to` live where `from` is ("": nothing). mode "new" keeps `from` as what was before it.
function shell.switch(app, to, from, mode)
  return shell.command(SWITCH, "switch", app, to, from, mode)
end

local HOOK <const> = [[
# hook NAME COMMAND
hook() {
	read_live
	RELEASE_APP=${app##*/} RELEASE_NAME=${1:-$live} RELEASE_LIVE=$live
	RELEASE_DIR=$app/releases/$RELEASE_NAME
	export RELEASE_APP RELEASE_NAME RELEASE_LIVE RELEASE_DIR
	cd "$RELEASE_DIR"
	exec sh -c "$2"
}
]]

-- Runs a command in the directory of a release ("": of the one that is live).
function shell.hook(app, name, command) return shell.command(HOOK, "hook", app, name, command) end

local PRUNE <const> = [[
# prune KEEP
prune() {
	read_live
	read_before
	n=0
	ls -1t "$app/releases" | while IFS= read -r name; do
		case $name in [A-Za-z0-9]*) ;; *) continue ;; esac
		if [ -L "$app/releases/$name" ] || [ ! -d "$app/releases/$name" ]; then continue; fi
		n=$((n + 1))
		if [ "$n" -le "$1" ] || [ "$name" = "$live" ] || [ "$name" = "$before" ]; then continue; fi
		rm -rf "$app/releases/.old"
		mv "$app/releases/$name" "$app/releases/.old"
		rm -rf "$app/releases/.old"
		rm -f "$app/.release/before/$name" "$app/.release/source/$name"
		printf '%s\n' "$name"
	done
}
]]

-- Takes away all but the `keep` newest releases, the live one and the one before it.
function shell.prune(app, keep) return shell.command(PRUNE, "prune", app, keep) end

return shell
