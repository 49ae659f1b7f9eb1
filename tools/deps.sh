#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages of some groups, only those that are missing: deps.sh build|demo|test|lint...
#
# As root, or through sudo; with neither it prints what is missing and what to type. Without apt and dpkg it
# prints what to install and goes on when the libraries and programs are there all the same. No service is
# started by it, and none that it brings is set to start at boot.
set -eu

PKGS_build="gcc libc6-dev make pkg-config liblua5.4-dev libpcre2-dev libevent-dev libhiredis-dev libjansson-dev
	libinih-dev libssl-dev libseccomp-dev libssh2-1-dev libcurl4-openssl-dev libwslay-dev lua-yaml
	redis-server patch scdoc xz-utils"
PKGS_demo="openssh-server openssh-client curl"
PKGS_test="libcmocka-dev openssh-server openssh-client openssl python3 procps golang-go golang-golang-x-crypto-dev
	ansible-core busybox clustershell curl dash dropbear-bin fish git iproute2 python3-jsonschema
	tcsh"
PKGS_bench="pdsh clustershell pssh python3-asyncssh ansible-core openssh-client redis-tools nginx-light
	libnginx-mod-http-lua lua-nginx-redis rsync wrk"
PKGS_lint="lua-check clang clang-tidy"
PKGS_fuzz="clang libclang-rt-14-dev"

# What to look for where there is no dpkg to ask.
LIBS_build="lua5.4 libpcre2-8 libevent libevent_pthreads libevent_openssl hiredis jansson inih libssl libcrypto libseccomp libssh2 libcurl"
LIBS_test="cmocka"
PROGRAMS_build="cc pkg-config redis-server"
PROGRAMS_demo="ssh-keygen curl"
PROGRAMS_test="ssh-keygen openssl python3 go ansible-inventory busybox clush"
PROGRAMS_bench="pdsh clush parallel-ssh ansible ssh redis-benchmark nginx rsync wrk"
PROGRAMS_lint="luacheck clang-tidy"
PROGRAMS_fuzz="clang"

POLICY=/usr/sbin/policy-rc.d
MARK="# written by exed's tools/deps.sh while it installs packages"
LOCK_WAIT=300 # seconds to wait for another apt

say() {
	echo "exed: $*" >&2
}

# Prints those of the packages $* that are not installed, on one line.
missing_of() {
	dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
		awk -v want="$*" '$2 == "installed" { have[$1] = 1 }
			END { n = split(want, w, /[ \t\n]+/)
				for (i = 1; i <= n; i++) if (w[i] != "" && !(w[i] in have)) line = line " " w[i]
				print substr(line, 2) }'
}

# ---- as root -------------------------------------------------------------------------------------------

# Runs apt-get; waits when another apt holds a lock (the option covers dpkg's lock, but not that of the lists).
apt() {
	waited=0
	while :; do
		status=0
		LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y -o DPkg::Lock::Timeout=$LOCK_WAIT \
			-o Acquire::Retries=2 "$@" >"$log" 2>&1 </dev/null || status=$?
		[ $status -ne 0 ] && grep -q 'Could not get lock\|Unable to acquire the dpkg frontend' "$log" &&
			[ $waited -lt $LOCK_WAIT ] || return $status
		[ $waited -ne 0 ] || say "another apt is at work; waiting for it"
		sleep 3
		waited=$((waited + 3))
	done
}

clean_up() {
	rm -f "$log"
	if [ -f $POLICY ] && grep -qxF "$MARK" $POLICY; then
		rm -f $POLICY
	fi
}

# Installing a server starts it, unless a policy-rc.d says no. One that is there belongs to somebody else.
hold_services() {
	[ ! -e $POLICY ] || return 0
	printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >$POLICY
	chmod 755 $POLICY
}

have_lists() {
	ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1
}

install_as_root() {
	umask 022
	log=$(mktemp)
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	hold_services
	updated=
	if ! have_lists; then
		say "reading the package lists"
		apt update || say "apt-get update failed; trying with what there is"
		updated=1
	fi
	say "installing: $*"
	if ! apt --no-install-recommends install "$@"; then
		if [ -z "$updated" ]; then
			say "that failed; once more with new package lists"
			apt update || :
			apt --no-install-recommends install "$@" || fail_install
		else
			fail_install
		fi
	fi
	for pair in redis-server:redis-server openssh-server:ssh nginx-light:nginx; do
		case " $* " in *" ${pair%%:*} "*) keep_from_boot "${pair#*:}" ;; esac
	done
}

fail_install() {
	tail -n 15 "$log" >&2
	say "the packages could not be installed; the lines above are apt-get's"
	exit 1
}

# The tests and exed start their own servers; the system's would open a port on the next boot.
keep_from_boot() {
	update-rc.d "$1" disable >/dev/null 2>&1 || return 0
	say "the service $1 is installed, but neither started nor set to start at boot"
}

# ---- as whoever typed make -----------------------------------------------------------------------------

without_dpkg() {
	libs= programs=
	for group in "$@"; do
		eval "libs=\"\$libs \${LIBS_$group-}\" programs=\"\$programs \${PROGRAMS_$group-}\""
	done
	lost=
	for name in $programs; do
		command -v "$name" >/dev/null 2>&1 || lost="$lost $name"
	done
	for name in $libs; do
		pkg-config --exists "$name" 2>/dev/null || lost="$lost lib:$name"
	done
	[ -n "$lost" ] || return 0
	say "this is not Debian (no apt-get, no dpkg): install these yourself, with their headers:"
	for name in $lost; do echo "  $name" >&2; done
	say "lib:NAME is the library that pkg-config knows by NAME. Debian's packages are called:"
	for group in "$@"; do
		eval "echo \"\$PKGS_$group\"" | tr -s ' \t\n' ' ' | sed 's/^/  /' >&2
		echo >&2
	done
	exit 1
}

main() {
	if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
		without_dpkg "$@"
		return
	fi
	wanted=
	for group in "$@"; do
		eval "wanted=\"\$wanted \$PKGS_$group\""
	done
	# shellcheck disable=SC2086 # lists of words
	missing=$(missing_of $wanted)
	[ -n "$missing" ] || return 0
	# shellcheck disable=SC2086
	if [ "$(id -u)" = 0 ]; then
		install_as_root $missing
	elif command -v sudo >/dev/null 2>&1; then
		say "these packages are missing, sudo will install them: $missing"
		sudo sh "$0" --as-root $missing && return 0
		by_hand
	else
		by_hand
	fi
}

by_hand() {
	say "these packages are missing, and installing them needs root:"
	for name in $missing; do echo "  $name" >&2; done
	echo "As root, type:" >&2
	echo "  apt-get update && apt-get install --no-install-recommends $missing" >&2
	exit 1
}

if [ "${1-}" = --as-root ]; then
	shift
	install_as_root "$@"
else
	main "$@"
fi
