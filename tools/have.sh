#!/bin/sh
# SPDX-License-Identifier: MIT
# Stops a build that cannot work, with the list of what is missing.
# usage: have.sh PKG-CONFIG-NAME... | have.sh --command PROGRAM... | have.sh --header FILE.h...
# --header is for libraries without a pkg-config file; CC is the compiler.
advice="Run 'make deps' first (and for the tests 'make test-deps', for lint 'make lint-deps')."

if [ "${1-}" = --command ]; then
	shift
	for name in "$@"; do
		command -v "$name" >/dev/null 2>&1 && continue
		echo "exed: the program $name is missing. $advice" >&2
		exit 1
	done
	exit 0
fi
if [ "${1-}" = --header ]; then
	shift
	for name in "$@"; do
		# shellcheck disable=SC2086 # CC may be words
		printf '#include <%s>\n' "$name" | ${CC:-cc} -E -x c - >/dev/null 2>&1 && continue
		echo "exed: ${CC:-cc} does not work, or the header $name is missing. $advice" >&2
		exit 1
	done
	exit 0
fi
if ! command -v pkg-config >/dev/null 2>&1; then
	echo "exed: pkg-config is missing. $advice" >&2
	exit 1
fi
pkg-config --exists "$@" && exit 0
echo "exed: libraries are missing:" >&2
for name in "$@"; do
	pkg-config --exists "$name" || echo "  $name" >&2
done
echo "$advice" >&2
exit 1
