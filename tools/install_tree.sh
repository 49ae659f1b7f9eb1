#!/bin/sh
# SPDX-License-Identifier: MIT
# Copies the Lua files of some folders, the scripts that they send to hosts and the plugin that they give to
# Ansible, as they lie in them:
# install_tree.sh TO FOLDER...
# Tests (*_test.lua) stay behind.
set -eu
to=$1
shift
for folder in "$@"; do
	[ -d "$folder" ] || continue
	find "$folder" -type f \( -name '*.lua' -o -name '*.sh' -o -name '*.py' -o -name '*.md' \) ! -name '*_test.lua' |
		while IFS= read -r file; do
			install -D -m 644 "$file" "$to/$file"
		done
done
