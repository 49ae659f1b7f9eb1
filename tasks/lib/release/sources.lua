-- SPDX-License-Identifier: MIT
-- How a release comes to a host: from a git repository, a tar archive or a directory. It is made as
-- releases/.new and renamed when it is whole.
local shell = require "lib.release.shell"

local sources = {}

local GIT <const> = [[
need_git() {
	repo=$app/.release/repo.git
	GIT_TERMINAL_PROMPT=0
	export GIT_TERMINAL_PROMPT
	command -v git >/dev/null || die "git is not installed"
}

# Brings the branches and tags of $source into the copy that is kept here.
fetch() {
	mkdir -p "$app/.release"
	if [ ! -d "$repo" ]; then
		rm -rf "$repo.new"
		git init --quiet --bare "$repo.new"
		mv "$repo.new" "$repo"
	fi
	find "$repo" -name '*.lock' -type f -exec rm -f {} +
	git --git-dir="$repo" -c gc.autoDetach=false -c maintenance.autoDetach=false fetch --quiet \
		--force --prune --no-tags -- "$source" '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'
}

has_commit() { git --git-dir="$repo" cat-file -e "$1^{commit}" 2>/dev/null; }

unpack_git() {
	need_git
	has_commit "$name" || fetch
	has_commit "$name" || die "$source has no commit $name"
	git --git-dir="$repo" archive --format=tar -o "$new.tar" "$name"
	tar -C "$new" -xof "$new.tar"
	rm -f "$new.tar"
}

# resolve SOURCE REVISION: the whole name of the commit that a tag, a branch or an id stands for
resolve() {
	source=$1
	need_git
	fetch
	for ref in "refs/tags/$2" "refs/heads/$2"; do
		if git --git-dir="$repo" rev-parse --verify --quiet "$ref^{commit}"; then exit 0; fi
	done
	case $2 in
	*[!0-9a-f]*) ;;
	???????*) if git --git-dir="$repo" rev-parse --verify --quiet "$2^{commit}"; then exit 0; fi ;;
	esac
	die "$source has no branch, tag or commit $2"
}
]]

local ARCHIVE <const> = [[
sum_of() {
	if command -v sha256sum >/dev/null; then
		sum=$(sha256sum <"$1")
	elif command -v shasum >/dev/null; then
		sum=$(shasum -a 256 <"$1")
	else
		die "neither sha256sum nor shasum is installed"
	fi
	sum=${sum%% *}
}

download() {
	if command -v curl >/dev/null; then
		curl -fgsSL --max-redirs 5 --retry 2 -o "$2" "$1"
	elif command -v wget >/dev/null; then
		wget -q -O "$2" "$1"
	else
		die "neither curl nor wget is installed"
	fi
}

# Not every tar finds out by itself how its file is compressed.
untar() {
	how=
	case $(od -An -tx1 -N6 "$file" | tr -d ' \n') in
	1f8b*) how=-z ;;
	fd377a585a00) how=-J ;;
	425a68*) how=-j ;;
	28b52ffd*) how=--zstd ;;
	esac
	set -- -C "$new" -xof "$file"
	if [ "$strip" != 0 ]; then set -- --strip-components="$strip" "$@"; fi
	if [ -n "$how" ]; then set -- "$how" "$@"; fi
	tar "$@"
}

unpack_archive() {
	file=$source
	case $source in
	http://* | https://*)
		file=$new.tar
		download "$source" "$file"
		;;
	esac
	[ -f "$file" ] || die "$source is not there"
	sum_of "$file"
	if [ -n "$checksum" ] && [ "$sum" != "$checksum" ]; then
		die "$source has the checksum $sum, not $checksum"
	fi
	untar
	rm -f "$new.tar"
	[ -n "$(ls -A "$new")" ] || die "$source has nothing in it"
}

unpack_directory() {
	[ -d "$source" ] || die "$source is no directory"
	cp -RPp "$source/." "$new"
}
]]

local PREPARE <const> = [[
# Refuses a release that is there and was made of something else.
check_made() {
	[ -d "$made" ] || die "$made is not a directory"
	if [ -n "$checksum" ] && [ -f "$app/.release/source/$name" ]; then
		sum=$(cat "$app/.release/source/$name")
		[ "$sum" = "$checksum" ] || die "$made is there, made of an archive with the checksum $sum"
	fi
}

# link PATH DIRECTORY: what is shared under PATH is linked into the release at DIRECTORY
link() {
	path=${1%/} kept=$app/shared/${1%/} place=$2/${1%/}
	parent=$path
	while :; do
		case $parent in */*) parent=${parent%/*} ;; *) break ;; esac
		[ ! -L "$2/$parent" ] || die "$parent is a link in the release: nothing can be linked below it"
	done
	if [ ! -e "$kept" ]; then
		mkdir -p "${kept%/*}"
		if [ -e "$place" ] && [ ! -L "$place" ]; then
			rm -rf "$app/shared/.new"
			cp -RPp "$place" "$app/shared/.new"
			mv "$app/shared/.new" "$kept"
		elif [ "$path" != "$1" ]; then
			mkdir "$kept"
		else
			die "$kept is not there: make it, or write $path/ for a directory"
		fi
	fi
	if [ -L "$place" ] && [ "$(readlink "$place")" = "$kept" ]; then return; fi
	mkdir -p "${place%/*}"
	rm -rf "$place"
	ln -s "$kept" "$place"
}

link_all() {
	where=$1
	shift
	for one do link "$one" "$where"; done
}

# stage NAME: makes a place for what the node sends, and says where; nothing when it need not
stage() {
	if [ -d "$app/releases/$1" ]; then exit 0; fi
	mkdir -p "$app/.release"
	rm -rf "$app/.release/sent"
	printf '%s\n' "$app/.release/sent"
}

# prepare KIND SOURCE NAME CHECKSUM STRIP SHARED...
prepare() {
	kind=$1 source=$2 name=$3 checksum=$4 strip=$5
	shift 5
	case $source in node:*) source=$app/.release/sent ;; esac
	new=$app/releases/.new made=$app/releases/$name sum=
	read_live
	mkdir -p "$app/releases" "$app/shared" "$app/.release/source"
	rm -rf "$new" "$new.tar" "$app/releases/.old"
	if [ -e "$made" ] || [ -L "$made" ]; then
		check_made
		if [ "$live" != "$name" ]; then link_all "$made" "$@"; fi
	else
		trap 'rm -rf "$new" "$new.tar"' EXIT
		mkdir "$new"
		"unpack_$kind"
		link_all "$new" "$@"
		printf '%s\n' "$sum" >"$app/.release/source/$name"
		touch "$new"
		mv "$new" "$made"
	fi
	rm -rf "$app/.release/sent"
	show_both
}
]]

-- In app, the commit that a revision of a git repository is.
function sources.resolve(app, source, revision)
  return shell.command(GIT, "resolve", app, source, revision)
end

-- Makes ready for the release `name` that the node is going to send. Prints the path that it wants
-- it under; nothing where that release is there.
function sources.stage(app, name) return shell.command(PREPARE, "stage", app, name) end

-- Makes the release `name`, unless it is there. shared: list of paths. Prints as shell.look.
function sources.prepare(app, kind, source, name, options)
  return shell.command(GIT .. ARCHIVE .. PREPARE, "prepare", app, kind, source, name,
    options.checksum or "", options.strip or 0, table.unpack(options.shared or {}))
end

return sources
