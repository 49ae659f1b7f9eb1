/* SPDX-License-Identifier: MIT */
/* fence: the text for the host, and the reader of what it says. No state of its own; any thread.
 *
 * The text holds no backslash, no `!` and no newline of its own, so that with most commands it travels in
 * the exec request itself. Its variables begin with x_, because those that the host's environment has
 * already are exported to the command. */
#include "fence.h"

#include <ctype.h>
#include <string.h>

#include "ssh_quote.h"

/* One argument of a program holds 128 KiB at most on Linux; longer commands run without an exec. */
#define ARG_MOST 120000u

/* ---- the text ---- */

/* Before it: x_o, x_b and x_c, the op id, the directory of all fences and the command. Then
 *   x_st PID    x_t is its start time; fails when it is gone or a zombie. A name may hold blanks and
 *               brackets, so what counts comes after the last ") "
 *   x_rc DIR    x_r is the exit code that was left; fails without one
 *   x_pid DIR   reads the pid file; fails when it is not there or not yet whole
 *   x_up        what x_pid read is alive: its boot, its pid and its start time
 *   x_end WORD  the last line and the exit
 * PIPE and HUP have a handler instead of being ignored: the command gets their defaults back. */
static const char text_tools[] =
	"x_d=$x_b/$x_o;x_r=1;x_i=-;trap : PIPE HUP;"
	"x_st(){ x_l=;while IFS= read -r x_q;do x_l=$x_l$x_q;done 2>/dev/null <\"/proc/$1/stat\"||return 1;"
	"set -- ${x_l##*\") \"};case $1 in \"\"|Z|X)return 1;;esac;x_t=${20};};"
	"x_rc(){ for x_l in \"$1\"/rc.*;do [ -e \"$x_l\" ]&&x_r=${x_l##*.}&&return;done;return 1;};"
	"x_pid(){ x_m=;read -r x_p x_s x_j x_k x_m 2>/dev/null <\"$1/pid\"&&[ \"$x_m\" ];};"
	"x_up(){ [ \"$x_i\" = \"$x_j\" ]||return 1;"
	"case $x_s in -)kill -0 \"$x_p\" 2>/dev/null;;*)x_st \"$x_p\"&&[ \"$x_t\" = \"$x_s\" ];;esac;};"
	"x_say(){ echo \"exed $x_o $1\" 2>/dev/null;};x_end(){ x_say \"$1\";exit \"$x_r\";};"
	"read -r x_i 2>/dev/null </proc/sys/kernel/random/boot_id;";

/* Sleeps a little longer each time; not every sleep takes fractions. */
static const char text_nap[] =
	"x_w=.05;x_nap(){ sleep $x_w 2>/dev/null||sleep 1;"
	"case $x_w in .05)x_w=.1;;.1)x_w=.2;;.2)x_w=.4;;.4)x_w=.8;;*)x_w=1;;esac;};";

/* mkdir decides. The first one is the usual case and costs one fork; only when it fails for want of the
 * directory above is that made. x_v is new or old. */
static const char text_place[] =
	"case $x_b in /*);;*)echo \"exed: HOME is not set\" >&2;x_end none;;esac;"
	"if mkdir -m 700 \"$x_d\" 2>/dev/null;then x_v=new;elif [ -d \"$x_d\" ];then x_v=old;"
	"elif (umask 077;mkdir -p \"$x_b\")&&mkdir -m 700 \"$x_d\";then x_v=new;"
	"elif [ -d \"$x_d\" ];then x_v=old;else x_end none;fi;";

/* Whoever made the directory may not have written its pid yet: about 5 s for that. After it x_f is end,
 * died or, when it runs, empty. The exit code may come between two looks. */
static const char text_find[] =
	"x_look(){ x_f=;x_rc \"$x_d\"&&x_f=end&&return;x_up&&return;"
	"x_rc \"$x_d\"&&x_f=end||x_f=died;};"
	"x_find(){ x_n=0;x_j=;x_k=0;until [ -e \"$x_d/no\" ]||x_pid \"$x_d\"||x_rc \"$x_d\"||[ $x_n -ge 9 ];"
	"do x_n=$((x_n+1));x_nap;done;[ -e \"$x_d/no\" ]&&x_end no;x_say old;x_look;};";

/* An op that is there: its output as far as it goes, and on until it has ended. The shell's descriptors
 * keep the place in the files from one cat to the next. What writes the files ends a moment after the
 * command, or much later when a child of that keeps the output open: 2 s for it. */
static const char text_old[] =
	"if [ $x_v = old ];then x_find;if [ -r \"$x_d/o\" ]&&[ -r \"$x_d/e\" ];then "
	"exec 6<\"$x_d/o\" 7<\"$x_d/e\";else exec 6</dev/null 7<&6;fi;x_w=.05;"
	"while :;do if [ \"$x_f\" = end ]&&[ \"$x_i\" = \"$x_j\" ];then x_n=0;"
	"while [ $x_n -lt 6 ]&&{ [ -d \"/proc/$x_k\" ]||[ -d \"/proc/${x_m:-0}\" ];};"
	"do x_n=$((x_n+1));x_nap;done;fi;"
	"cat <&6;cat <&7 >&2;[ \"$x_f\" ]&&x_end $x_f;x_nap;x_look;done;fi;";

/* The command has a stdin of its own, and its shell a process of its own: $$ in it is not ours. */
static const char text_files[] =
	"x_no(){ true 2>/dev/null >\"$x_d/no\";x_end none;};"
	"true >\"$x_d/o\"&&true >\"$x_d/e\"||x_no;x_st $$||x_t=-;x_k=0;x_m=0;x_v=quiet;";

/* Live: two fifos lead the output to what writes it into the files and to us. They are opened so that no
 * open waits for another, and taken away at once. Without fifos it is the quiet form. */
static const char text_live[] =
	"if mkfifo \"$x_d/1\" \"$x_d/2\" 2>/dev/null;then x_v=live;"
	"exec 6<>\"$x_d/1\" 7<>\"$x_d/2\" 8<\"$x_d/1\" 9<\"$x_d/2\" 3>\"$x_d/1\" 4>\"$x_d/2\" 6>&- 7>&-;"
	"rm -f \"$x_d/1\" \"$x_d/2\";"
	"(trap \"\" PIPE HUP;exec tee \"$x_d/o\" <&8 2>/dev/null 3>&- 4>&- 8<&- 9<&-)&x_k=$;"
	"(trap \"\" PIPE HUP;exec tee \"$x_d/e\" <&9 >&2 2>/dev/null 3>&- 4>&- 8<&- 9<&-)&x_m=$;"
	"exec 8<&- 9<&-;fi;";

/* Without a whole pid file nothing starts. */
static const char text_begin[] =
	"echo \"$$ $x_t $x_i $x_k $x_m\" >\"$x_d/pid\"||x_no;";

/* Old ends, up to 32 of them. What is no op's directory is let be, and so is an op that runs. */
static const char text_sweep[] =
	"set --;for x_q in $(cd \"$x_b\"&&find . -mindepth 1 -maxdepth 1 -type d -name \"*.*.*.*\" "
	"-mmin +%lld 2>/dev/null);do x_q=$x_b/${x_q#./};[ $# -lt 32 ]||break;"
	"(x_rc \"$x_q\"||[ -e \"$x_q/no\" ])||{ x_pid \"$x_q\"&&{ x_up&&false||true;};}&&"
	"set -- \"$@\" \"$x_q\";done;[ $# = 0 ]||rm -rf \"$@\" 2>/dev/null;";
