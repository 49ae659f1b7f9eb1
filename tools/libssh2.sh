#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds a libssh2 of Debian's into build/deps, when the system's is older than exed wants.
#
# The source package is that of a newer Debian release, from the mirror that this system's own apt sources name,
# checked by apt against Debian's keys. All of apt's state for it lies in build/deps; nothing outside is changed
# and no root is needed. Our own patches (tools/libssh2-*.patch) are applied behind Debian's. build/deps/lib/libssh2.a
# is put in place last but for the stamp, which names the recipe: when this script or a patch changes, it is built anew.
# Where the source cannot be had, this says what will not work, and the build goes on with the system's.
#
# usage: libssh2.sh [--check]    --check builds nothing, and only says when what is in build/deps is of an older recipe.
set -eu

WANT=1.11.1
SUITE=trixie
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
RETRY=60 # minutes before a source that could not be had is asked for again

top=$(pwd)
deps=$top/build/deps
note=$deps/no-libssh2
stamp=$deps/libssh2.stamp
work=$deps/work.$$
recipe=$(cat "$0" "$top"/tools/libssh2-*.patch | sha256sum)

say() {
	echo "exed: $*" >&2
}

system_version() {
	pkg-config --modversion libssh2 2>/dev/null || echo none
}

# Goes on with the system's library: $1 is why.
do_without() {
	rm -rf "$work"
	mkdir -p "$deps"
	if [ -f "$deps/lib/libssh2.a" ]; then
		say "libssh2 cannot be built anew: $1; going on with the one that is in build/deps"
		echo "$1" >"$note"
		exit 0
	fi
	echo "$1" >"$note"
	tell_without
}

tell_without() {
	say "libssh2 $WANT could not be had: $(cat "$note")"
	say "going on with the system's libssh2 $(system_version), with which these do not work:"
	cat >&2 <<-'END'
	  - logging in with RSA keys, and hosts that have only an RSA host key, with today's sshd
	  - hosts that offer only AEAD ciphers (AES-GCM, ChaCha20) or only EtM MACs
	  - user certificates, and signals to a remote command
	END
	say "'make deps' tries again after $RETRY minutes, or at once after 'rm $note'"
	exit 0
}

fail() {
	[ ! -f "$work/log" ] || tail -n 25 "$work/log" >&2
	say "$1"
	exit 1
}

# ---- where the source is -------------------------------------------------------------------------------

# Prints "URI FILE" for each entry of the system's apt sources that is this Debian's main archive.
debian_entries() {
	[ -r /etc/os-release ] || return 0
	(
		. /etc/os-release
		[ "${ID-}" = debian ] || exit 0
		# The origin is known of archives whose lists have been read; without any, the entry has to do.
		targets '$(ORIGIN)' | pick "${VERSION_CODENAME-}" Debian | grep . ||
			targets unknown --no-release-info | pick "${VERSION_CODENAME-}" unknown
	)
}

targets() {
	origin=$1
	shift
	apt-get indextargets "$@" --format "\$(REPO_URI) \$(RELEASE) \$(COMPONENT) \$(SOURCESENTRY) $origin" \
		'Created-By: Packages' 2>/dev/null || :
}

pick() {
	awk -v code="$1" -v origin="$2" '
		$3 == "main" && $5 == origin && ($2 == code || $2 == "stable" || $2 == "oldstable") &&
		$1 !~ /^(cdrom|file|copy):/ { sub(/:[0-9]+$/, "", $4); print $1, $4 }' | sort -u
}

# Prints the key files to try: the one that the entry for URI $1 in the sources file $2 names, Debian's own.
keys_of() {
	uri=${1%/}
	case $2 in
	*.sources)
		key=$(awk -v RS= -v uri="$uri" 'index($0, uri) { n = split($0, l, "\n")
			for (i = 1; i <= n; i++) if (l[i] ~ /^[Ss]igned-[Bb]y:[ \t]*\//) {
				sub(/^[^:]*:[ \t]*/, "", l[i]); print l[i]; exit } }' "$2") ;;
	*)
		key=$(grep -v '^[[:space:]]*#' "$2" | grep -F "$uri" |
			sed -n 's|.*\[[^]]*signed-by=\(/[^] ]*\).*|\1|p' | head -n 1) ;;
	esac
	if [ -n "$key" ] && [ "$key" != $KEYRING ]; then
		echo "$key"
	fi
	[ ! -r $KEYRING ] || echo $KEYRING
}

# Writes the private apt configuration and sources for URI $1 and key $2.
write_apt_files() {
	mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/get"
	cat >"$work/apt/apt.conf" <<-END
	#clear APT::Update::Pre-Invoke;
	#clear APT::Update::Post-Invoke;
	#clear APT::Update::Post-Invoke-Success;
	#clear DPkg::Post-Invoke;
	Dir::Etc::SourceList "$work/apt/$SUITE.sources";
	Dir::Etc::SourceParts "/dev/null";
	Dir::State::lists "$work/apt/lists";
	Dir::Cache "$work/apt/cache";
	APT::Sandbox::User "$(id -un)";
	APT::Get::AllowUnauthenticated "false";
	Acquire::AllowInsecureRepositories "false";
	Acquire::AllowWeakRepositories "false";
	Acquire::AllowDowngradeToInsecureRepositories "false";
	Acquire::Languages "none";
	Acquire::Retries "2";
	Acquire::http::Timeout "20";
	Acquire::https::Timeout "20";
	END
	{
		echo "Types: deb-src"
		echo "URIs: $1"
		echo "Suites: $SUITE"
		echo "Components: main"
		echo "Signed-By: $2"
	} >"$work/apt/$SUITE.sources"
}

# Fetches the source package from URI $1 into $work/get, if its index is signed with the key file $2.
fetch_from() {
	rm -rf "$work/apt"
	write_apt_files "$1" "$2"
	export LC_ALL=C
	apt-get -q -c "$work/apt/apt.conf" update >>"$work/log" 2>&1 || return 1
	# apt says here whether the index was signed by that key, and whose archive it is.
	apt-get -c "$work/apt/apt.conf" indextargets --format '$(ORIGIN) $(TRUSTED)' 'Created-By: Sources' |
		grep -qx 'Debian yes' || { echo "the index is not a signed one of Debian's" >>"$work/log"; return 1; }
	(cd "$work/get" && apt-get -q -c "$work/apt/apt.conf" source --download-only --only-source libssh2) \
		>>"$work/log" 2>&1
}

fetch() {
	entries=$(debian_entries)
	[ -n "$entries" ] || do_without "the apt sources name no Debian archive"
	while read -r uri file; do
		for key in $(keys_of "$uri" "$file"); do
			fetch_from "$uri" "$key" && return 0
		done
	done <<-END
	$entries
	END
	[ -r $KEYRING ] || echo "E: $KEYRING is not there (package debian-archive-keyring)" >>"$work/log"
	! grep -q NO_PUBKEY "$work/log" || say "a newer package debian-archive-keyring may have the key"
	do_without "$(grep '^[EW]:\|^the index' "$work/log" | head -n 1 | grep . || echo 'no answer from the archive')"
}

# ---- build ---------------------------------------------------------------------------------------------

unpack() {
	version=$(sed -n 's/^Version: *//p' "$work"/get/libssh2_*.dsc | head -n 1)
	dpkg --compare-versions "$version" ge "$WANT" || do_without "$SUITE has only version $version"
	mkdir -p "$work/src"
	tar -xf "$work"/get/libssh2_*.orig.tar.[gxb]z -C "$work/src" --strip-components=1
	tar -xf "$work"/get/libssh2_*.debian.tar.[gxb]z -C "$work/src"
	cd "$work/src"
	[ ! -f debian/patches/series ] || sed 's/[[:space:]]*#.*//; /^$/d' debian/patches/series |
		while read -r name level; do
			patch -s "${level:--p1}" -i "debian/patches/$name" || exit 1
		done || fail "a patch of the libssh2 package does not apply"
	for name in "$top"/tools/libssh2-*.patch; do
		patch -s -p1 -i "$name" || fail "$name does not apply to libssh2 $version"
	done
}

compile() {
	CC=${CC:-gcc} CFLAGS='-O2 -g -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2' ./configure --quiet \
		--prefix="$deps" --disable-shared --enable-static --with-pic --disable-examples-build \
		--disable-tests --with-crypto=openssl --without-libz --disable-dependency-tracking \
		>>"$work/log" 2>&1 || fail "libssh2's configure failed; the lines above are its last"
	${MAKE:-make} -j2 MAKEFLAGS= >>"$work/log" 2>&1 || fail "libssh2 did not compile; see the lines above"
	${MAKE:-make} MAKEFLAGS= install DESTDIR="$work/stage" >>"$work/log" 2>&1 || fail "libssh2 was not installed"
}

# A small program that needs what was built, and says its version.
try_out() {
	cat >"$work/try.c" <<-END
	#include <libssh2.h>
	#include <stdio.h>
	int main(void)
	{
		if (libssh2_init(0) || !libssh2_version(LIBSSH2_VERSION_NUM))
			return 1;
		puts(libssh2_version(0));
		return 0;
	}
	END
	"${CC:-gcc}" -I"$work/stage$deps/include" -o "$work/try" "$work/try.c" "$work/stage$deps/lib/libssh2.a" \
		-lssl -lcrypto >>"$work/log" 2>&1 || fail "a program does not link with the new libssh2"
	built=$("$work/try") || fail "a program with the new libssh2 does not run"
	dpkg --compare-versions "$built" ge "$WANT" || fail "version $built came out of the build, not $WANT"
}

put_in_place() {
	mkdir -p "$deps/include" "$deps/lib"
	cp "$work/stage$deps"/include/libssh2*.h "$deps/include/"
	cp "$work/stage$deps/lib/libssh2.a" "$deps/lib/libssh2.a.$$"
	mv "$deps/lib/libssh2.a.$$" "$deps/lib/libssh2.a"
	echo "$recipe" >"$stamp"
	rm -rf "$note"
	say "libssh2 $built is in build/deps"
}

if [ -f "$deps/lib/libssh2.a" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$recipe" ]; then
	exit 0
fi
if [ "${1-}" = --check ]; then
	[ ! -f "$deps/lib/libssh2.a" ] || say "build/deps has a libssh2 of an older recipe, with which tests fail; 'make deps' builds it anew"
	exit 0
fi
if [ ! -f "$deps/lib/libssh2.a" ] && pkg-config --atleast-version=$WANT libssh2 2>/dev/null; then
	exit 0
fi
if [ -f "$note" ] && [ -n "$(find "$note" -mmin -$RETRY)" ]; then
	[ ! -f "$deps/lib/libssh2.a" ] || exit 0
	tell_without
fi
command -v apt-get >/dev/null 2>&1 || do_without "there is no apt-get here"

if [ -f "$deps/lib/libssh2.a" ]; then
	say "the recipe of libssh2 has changed; building it anew (about a minute)"
else
	say "the system's libssh2 is $(system_version); building $WANT or newer (about a minute)"
fi
for old in "$deps"/work.*; do # of runs that were killed
	[ ! -d "$old" ] || kill -0 "${old##*.}" 2>/dev/null || rm -rf "$old"
done
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work"
: >"$work/log"
fetch
unpack
compile
try_out
put_in_place
