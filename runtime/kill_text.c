/* SPDX-License-Identifier: MIT */
/* kill_text: the script's text and its answer. Pure functions; any thread. */
#include "kill_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Clock ticks of /proc/PID/stat in a second: every Linux but alpha's says 100 to programs. */
#define TICKS 100
/* The script may start so much later than it was asked for. */
#define TRAVEL_MS 1000

/* Before it: o the op's mark, f a piece of the names in its fence, m look, w as_other, u alone, t age.
 *   K  what belongs to the op: " 12 34 "
 *   E  what is never touched: the script and its ancestors; D of them the connection's sshd, A those above
 *   T  sessions that belong to it; I the numbers of its output
 *   L  all processes seen; P_n, G_n, S_n and B_n the parent, process group, session and start of n
 * /proc/n/stat is read by the shell itself; a process's name may hold blanks, newlines and brackets, so
 * what counts comes after the last ") ". A session that led here, too, would be the script's: of a server
 * that makes none. It is left out. */
static const char text_tools[] =
	"exec 2>/dev/null;cd /proc||exit 1;K=' ';T=' ';E=' ';A=' ';L=;D=;I=;"
	"st(){ l=;while IFS= read -r q;do l=$l$q;done<$1/stat||return 1;n=${l%\") \"*};n=${n#*\\(};"
	"l=${l##*\") \"};set -- $l;z=$1 pp=$2 gg=$3 ss=$4 bt=${20};[ \"$bt\" ];};"
	"cg(){ c=;while IFS= read -r q;do c=$c$q;done<$1/cgroup;i=;read -r i<$1/sessionid;c=$c$i;};"
	"p=$$;st $p;N=$bt;while [ \"$p\" -gt 0 ]&&st $p;do E=\"$E$p \";"
	"case $D$n in sshd*|dropbear*)D=$p A=' ';;*)[ \"$p\" = $$ ]||A=\"$A$p \";;esac;p=$pp;done;"
	"B=;[ \"$t\" ]&&B=$((N-t));"
	"grep -qszxF \"$o\" self/environ;if [ $? -gt 1 ];then "
	"mk(){ for e in [0-9]*;do tr '\\0' '\\n'<$e/environ|grep -qxF \"$o\"&&echo $e/environ;done;};"
	"else mk(){ grep -lszxF \"$o\" [0-9]*/environ;};fi;";

/* `ad N` takes N in; `sc` looks for more; `no N` says whether N bears no op id at all. */
static const char text_scan[] =
	"ad(){ case $E$K in *\" $1 \"*)return;;esac;K=\"$K$1 \";g=1;"
	"eval \"ss=\\$S_$1\";case $E in *\" $ss \"*);;*)T=\"$T$ss \";;esac;};"
	"no(){ ! tr '\\0' '\\n'<$1/environ|grep -q '^EXED_OP=';};"
	"sc(){ for p in [0-9]*;do eval \"pp=\\$P_$p\";[ \"$pp\" ]&&continue;"
	"st $p&&eval \"P_$p=$pp G_$p=$gg S_$p=$ss B_$p=$bt\"&&L=\"$L $p\";done;"
	"for p in $(mk);do ad ${p%/*};done;"
	"for p in $L;do eval \"pp=\\$P_$p\";[ \"$u\" ]&&[ \"$pp\" = \"$D\" ]&&no $p&&ad $p;done;"
	"g=1;while [ \"$g\" ];do g=;for p in $L;do case $K in *\" $p \"*)continue;;esac;"
	"eval \"pp=\\$P_$p ss=\\$S_$p\";case $K in *\" $pp \"*|*\" $ss \"*)ad $p;continue;;esac;"
	"case $T in *\" $ss \"*)ad $p;;esac;done;done;};";

/* An orphan is whom init, or who stands in for it, has taken in; a connection's sshd is none, though
 * its parent is the listener. `or` makes C of those that are as old as the op or younger; `ou` takes in
 * those of C that hold the output of the op or a file of its fence. */
static const char text_orphans[] =
	"or(){ C=;for p in $L;do case $E$K in *\" $p \"*)continue;;esac;eval \"pp=\\$P_$p bt=\\$B_$p\";"
	"[ \"$B\" ]&&[ \"$bt\" -lt \"$B\" ]&&continue;"
	"case \"1 $A\" in \"$pp \"*|*\" $pp \"*);;*)n=;read -r n<$pp/comm;[ \"$n\" = systemd ]||continue;;esac;"
	"st $p||continue;case $n in sshd*|dropbear*);;*)C=\"$C $p\";;esac;done;};"
	"ou(){ or;[ \"$C\" ]||return;s=\"\\\\|$f|{g;p;}\";for n in $I;do s=\"$s;/[et]:.$n.\\$/{g;p;}\";done;"
	"for p in $(for p in $C;do echo $p/fd:;ls -l $p/fd;done|"
	"sed -n -e '/^[0-9]*.fd:$/{s/.fd:$//;h;}' -e \"$s\");do ad $p;done;};"
	/* The output of the op: what the leaders of its sessions have as descriptors 1 and 2. */
	"io(){ s=;for p in $K;do eval \"ss=\\$S_$p\";[ \"$p\" = \"$ss\" ]&&s=\"$s $p/fd/1 $p/fd/2\";done;"
	"[ \"$s\" ]&&I=$(ls -l $s|sed -n -e 's/.*-> pipe:.\\([0-9]*\\).$/\\1/p'"
	" -e 's/.*-> socket:.\\([0-9]*\\).$/\\1/p');};";

/* `sg SIGNAL`: the groups in sessions of the op get it whole, so that none of their members can have forked
 * meanwhile; what is elsewhere gets it by its number. */
static const char text_signal[] =
	"sg(){ Q=' 0 1 ';for p in $K;do eval \"ss=\\$S_$p gg=\\$G_$p\";case $T in *\" $ss \"*)"
	"case $Q in *\" $gg \"*);;*)Q=\"$Q$gg \";kill -$1 -$gg;;esac;;esac;done;kill -$1 $K;};";

/* Stop until nothing is new, then kill until nothing lives; a look only counts. What is found first is
 * mostly the op's own shell, so the op is as old as that at least. */
static const char text_kill[] =
	"sc;io;[ \"$B\" ]&&for p in $K;do eval \"bt=\\$B_$p\";[ \"$bt\" -lt \"$B\" ]&&B=$bt;done;"
	"r=0;while [ $r -lt 20 ];do r=$((r+1));b=$K;[ \"$m$w\" ]||sg STOP;"
	"sc;ou;[ \"$K\" = \"$b\" ]&&break;done;"
	"r=0;while [ $r -lt 30 ];do r=$((r+1));[ \"$m\" ]||[ \"$K\" = ' ' ]||sg KILL;sc;a=0;k=0;"
	"for p in $K;do k=$((k+1));st $p&&[ \"$z\" != Z ]&&[ \"$z\" != X ]&&a=$((a+1));done;"
	"[ $a = 0 ]||[ \"$m\" ]&&break;sleep .1||sleep 1;done;";

/* s counts those that may be its; what is below one of them is one with it. */
static const char text_end[] =
	"s=-1;if [ \"$B\" ];then s=0;cg $$;C0=$c;or;for p in $L;do eval \"pp=\\$P_$p bt=\\$B_$p\";"
	"[ \"$pp\" = \"$D\" ]&&[ \"$bt\" -ge \"$B\" ]&&case $E$K in *\" $p \"*);;*)C=\"$C $p\";;esac;done;"
	"for p in $C;do st $p&&[ \"$z\" != Z ]&&[ \"$z\" != X ]&&[ -O $p ]&&cg $p&&[ \"$c\" = \"$C0\" ]&&"
	"no $p&&s=$((s+1));done;fi;"
	"echo \"exed-kill $k $a $s\"\n";

void kill_text_put(struct buf *out, const struct kill_text *k)
{
	buf_printf(out, "o='EXED_OP=%s';f='/%s/';m=%s;w=%s;u=%s;t=", k->op_id, k->op_id,
		   k->look ? "look" : "", k->as_other ? "1" : "", k->alone ? "1" : "");
	if (k->age_ms >= 0)
		buf_printf(out, "%" PRId64, (k->age_ms + TRAVEL_MS) * TICKS / 1000);
	buf_putc(out, ';');
	buf_puts(out, text_tools);
	buf_puts(out, text_scan);
	buf_puts(out, text_orphans);
	buf_puts(out, text_signal);
	buf_puts(out, text_kill);
	buf_puts(out, text_end);
}

struct kill_answer kill_text_read(struct buf *said)
{
	struct kill_answer a = { .left = -1, .possible = -1 };
	const char *s = buf_str(said);
	unsigned found;
	int left, possible = -1;

	s = s ? strstr(s, "exed-kill ") : NULL;
	if (s && sscanf(s, "exed-kill %u %d %d", &found, &left, &possible) >= 2) {
		a.left = left;
		a.possible = possible;
	}
	return a;
}
