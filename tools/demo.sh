#!/bin/sh
# SPDX-License-Identifier: MIT
# A first look: a private sshd that serves 24 hosts on 127.0.1.x, exed on its own Redis, one job over
# HTTP. Everything lives in a temporary directory and is gone afterwards; KEEP=1 leaves it running.
# The system's sshd and your ~/.ssh are not touched.
set -eu

HOSTS=24
PER_SSHD=16 # addresses that one sshd listens on
ROOT=$(cd "$(dirname "$0")/.." && pwd)
DIR=$(mktemp -d "${TMPDIR:-/tmp}/exed-demo.XXXXXX")
SSHD=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || { echo "demo: sshd is not installed" >&2; exit 1; }
PIDS=""

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

stop() {
	for pid in $PIDS; do kill "$pid" 2>/dev/null || true; done
	for pid in $PIDS; do wait "$pid" 2>/dev/null || true; done
	PIDS=""
}
# The demo's own requests are no reason.
tell_why() {
	echo "demo: something went wrong; its logs:"
	for log in "$DIR"/*.log; do
		[ ! -s "$log" ] || { echo "== ${log##*/}"; grep -v ' info access ' "$log" | tail -n 20; }
	done
}
cleanup() {
	code=$?
	trap - EXIT INT TERM
	stop
	[ $code -eq 0 ] || { tell_why >&2; }
	rm -rf "$DIR"
	exit $code
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A port that nobody listens on: asked of the kernel's table of sockets.
free_port() {
	port=$1
	while grep -q ":$(printf %04X "$port") 00000000:0000 0A" /proc/net/tcp; do port=$((port + 1)); done
	echo "$port"
}

# ---- the fleet --------------------------------------------------------------------------------------

say "1. A fleet: $HOSTS hosts on 127.0.1.x, served by a private sshd"
SSH_PORT=$(free_port 2222)
ssh-keygen -q -t ed25519 -N '' -f "$DIR/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$DIR/id"
cp "$DIR/id.pub" "$DIR/authorized_keys"
ME=$(id -un)
# Without PAM, sshd refuses accounts that are locked, as root is in many containers.
PAM=no
if [ "$(id -u)" = 0 ]; then
	grep -q '^root:!' /etc/shadow && PAM=yes
	# sshd asks for this directory when root starts it.
	[ -d /run/sshd ] || mkdir -m 755 /run/sshd
fi

write_sshd_config() { # number, first host, last host
	{
		i=$2
		while [ "$i" -le "$3" ]; do echo "ListenAddress 127.0.1.$i:$SSH_PORT"; i=$((i + 1)); done
		echo "HostKey $DIR/host_key"
		echo "AuthorizedKeysFile $DIR/authorized_keys"
		echo "PidFile none"
		echo "UsePAM $PAM"
		echo "StrictModes no"
		echo "PasswordAuthentication no"
		echo "KbdInteractiveAuthentication no"
		echo "MaxStartups 1000"
		echo "UseDNS no"
		echo "PrintMotd no"
		echo "PrintLastLog no"
	} > "$DIR/sshd$1.conf"
}

n=0
first=1
while [ $first -le $HOSTS ]; do
	last=$((first + PER_SSHD - 1))
	[ $last -le $HOSTS ] || last=$HOSTS
	write_sshd_config $n $first $last
	"$SSHD" -D -f "$DIR/sshd$n.conf" -E "$DIR/sshd$n.log" < /dev/null > /dev/null 2>&1 &
	PIDS="$PIDS $!"
	n=$((n + 1))
	first=$((last + 1))
done

KEY=$(cut -d' ' -f1,2 "$DIR/host_key.pub")
{
	i=1
	while [ $i -le $HOSTS ]; do
		[ $i -eq 1 ] && echo "[web]"
		[ $i -eq 17 ] && echo "[db]"
		if [ $i -le 16 ]; then name=$(printf 'web%02d' $i); else name=$(printf 'db%02d' $((i - 16))); fi
		echo "$name ansible_host=127.0.1.$i"
		i=$((i + 1))
	done
	echo "[all:vars]"
	echo "ansible_port=$SSH_PORT"
	echo "ansible_user=$ME"
} > "$DIR/hosts"
i=1
while [ $i -le $HOSTS ]; do
	echo "[127.0.1.$i]:$SSH_PORT $KEY"
	i=$((i + 1))
done > "$DIR/known_hosts"
echo "   web01..web16 and db01..db08, login by key, host keys known"

# ---- exed -------------------------------------------------------------------------------------------

say "2. exed, with a Redis of its own"
PORT=$(free_port 16808)
cat > "$DIR/exed.conf" <<END
[api]
listen_port = $PORT
[store]
dir = $DIR/state
[inventory]
path = $DIR/hosts
[ssh]
key = $DIR/id
known_hosts = $DIR/known_hosts
[log]
error_log = $DIR/exed.log
END
"$ROOT/build/exed" -c "$DIR/exed.conf" < /dev/null > "$DIR/start.log" 2>&1 &
EXED=$!
PIDS="$EXED $PIDS"
URL=http://127.0.0.1:$PORT
i=0
until curl -fsS -o /dev/null "$URL/healthz" 2>/dev/null; do
	i=$((i + 1))
	kill -0 $EXED 2>/dev/null && [ $i -lt 150 ] || exit 1
	sleep 0.1
done
echo "   serving $URL"

# ---- a job ------------------------------------------------------------------------------------------

say "3. One job: which host am I on, on all of them"
BODY='{"targets": "all", "cmd": "set -- $SSH_CONNECTION; echo $3 runs $(uname -sr)"}'
echo "   POST $URL/execute"
echo "   $BODY"
ANSWER=$(curl -fsS "$URL/execute" -H 'Content-Type: application/json' -d "$BODY")
JID=$(printf %s "$ANSWER" | sed 's/.*"jid": *"\([^"]*\)".*/\1/')
echo "   201 $ANSWER"

say "4. Following it: GET /jobs/$JID?follow=1"
curl -fsSN "$URL/jobs/$JID?follow=1" | "$ROOT/build/exed-run" -c "$DIR/exed.conf" "$ROOT/tools/demo_show.lua"

say "What to try next"
if [ "${KEEP:-}" ] && [ "${KEEP:-}" != 0 ]; then
	cat <<END
   It goes on running. In $DIR are exed.conf, hosts and the log.
     curl '$URL/target?pattern=db*'
     curl '$URL/ping?target=web01'
     curl '$URL/execute?target=web01,web02&cmd=uptime'
     curl '$URL/execute' -H 'Content-Type: application/json' -d '{"targets": "web*", "cmd": "sleep 2; date"}'
     curl -N '$URL/jobs/$JID?follow=1'
     curl '$URL/jobs?detail=1'
   To end it: kill $(echo $PIDS); rm -r $DIR
END
	trap - EXIT INT TERM
else
	cat <<END
   make demo KEEP=1        leaves all this running, with curl lines to try
   build/exed-run --help   the same from a shell, without a server
   conf/exed.conf          every setting; README.md has a first job on your own hosts
   make test               runs every test
END
fi
