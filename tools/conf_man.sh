#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes exed.conf(5) as scdoc from conf/exed.conf, which is made from the table of settings:
# conf_man.sh conf/exed.conf >exed.conf.5.scd
set -eu
awk '
# What scdoc would read as markup.
function plain(text) {
	gsub(/[\\*_\[\]#~`]/, "\\\\&", text)
	return text
}
function join() {
	for (text = ""; at < n; text = text (text == "" ? "" : " ") lines[++at])
		if (lines[at + 1] == "") {
			at++
			break
		}
	return plain(text)
}
# A comment that belongs to nothing in particular: the head of the file, or what a section is.
function prose() {
	while (at < n)
		print join() "\n"
}
function setting(line) {
	key = line
	sub(/ *=.*/, "", key)
	value = line
	sub(/[^=]*= */, "", value)
	printf "*%s*%s\n", plain(key), value == "" ? "" : " = " plain(value)
	text = join()
	sub(/^[^:]*: /, "", text)
	printf "\t%s\n\n", text
	at = n
}
function forget() {
	n = at = 0
	split("", lines)
}
BEGIN {
	print "exed.conf(5)\n\n# NAME\n\nexed.conf - the settings of exed and exed-run\n\n# DESCRIPTION\n"
}
/^#( |$)/ {
	sub(/^# ?/, "")
	lines[++n] = $0
	next
}
/^\[/ {
	text = join()
	printf "# SECTION %s\n\n", $0
	if (text != "") print text "\n"
	forget()
	next
}
/^#[a-z]/ {
	setting(substr($0, 2))
	forget()
	next
}
/^$/ && n {
	prose()
	forget()
}
END {
	print "# SEE ALSO\n\n*exed*(8), *exed-run*(1)"
}' "$1"
