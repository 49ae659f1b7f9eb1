/* SPDX-License-Identifier: MIT */
/* fence: the text for the host, and the reader of what it says. No state of its own; any thread.
 *
 * The text is POSIX sh and find's -mmin, which GNU, busybox and BSD have. Its variables begin with x_:
 * setting one that the environment has would change it for the command too. */
#include "fence.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ssh_quote.h"

/* One argument of a program holds 128 KiB at most on Linux; a longer command runs without an exec. */
#define ARG_MOST 120000u
/* At most this long until a host's fences are swept again. */
#define SWEEP_EVERY_S 3600
/* The longest word after the op id, with its newline. */
#define WORD_MAX 6u

/* ---- the text ---- */

/* Before it: x_o, x_b and x_c, the op id, the directory of all fences and the command. Then
 *   x_st PID    x_t is its start time; fails when it is gone or a zombie. A name may hold blanks and
 *               brackets, so what counts comes after the last ") "
 *   x_rc        x_r is the exit code that was left; fails without one
 *   x_pid DIR   reads the pid file; fails when it is not there or not yet whole
 *   x_up        what x_pid read is alive: its boot, its pid and its start time
 *   x_end WORD  the last line and the exit
 *   x_nap       sleeps a little longer each time; not every sleep takes fractions
 * PIPE and HUP have a handler instead of being ignored: the command gets their defaults back. */
static const char text_tools[] =
	"x_d=$x_b/$x_o;x_r=1;x_i=-;x_q=;x_w=.05;trap : PIPE HUP;"
	"x_st(){ x_l=;while IFS= read -r x_q;do x_l=$x_l$x_q;done 2>/dev/null <\"/proc/$1/stat\"||return 1;"
	"set -- ${x_l##*\") \"};case $1 in ''|Z|X)return 1;;esac;x_t=${20};};"
	"x_rc(){ for x_l in \"$x_d\"/rc.*;do [ -e \"$x_l\" ]&&x_r=${x_l##*.}&&return;done;return 1;};"
	"x_pid(){ x_m=;read -r x_p x_s x_j x_k x_m 2>/dev/null <\"$1/pid\"&&[ \"$x_m\" ];};"
	"x_up(){ [ \"$x_i\" = \"$x_j\" ]||return 1;"
	"case $x_s in -)kill -0 \"$x_p\" 2>/dev/null;;*)x_st \"$x_p\"&&[ \"$x_t\" = \"$x_s\" ];;esac;};"
	"x_say(){ echo \"exed $x_o $1\" 2>/dev/null;};x_end(){ x_say \"$1\";exit \"$x_r\";};"
	"x_nap(){ sleep $x_w 2>/dev/null||sleep 1;"
	"case $x_w in .05)x_w=.1;;.1)x_w=.2;;.2)x_w=.4;;.4)x_w=.8;;*)x_w=1;;esac;};"
	"read -r x_i 2>/dev/null </proc/sys/kernel/random/boot_id;";

/* mkdir decides. The first one is the usual case and costs one fork; only when it fails for want of the
 * directory above is that made. x_v is new or old. */
static const char text_place[] =
	"case $x_b in /*);;*)echo 'exed: HOME is not set' >&2;x_end none;;esac;"
	"if mkdir -m 700 \"$x_d\" 2>/dev/null;then x_v=new;elif [ -d \"$x_d\" ];then x_v=old;"
	"elif (umask 077;mkdir -p \"$x_b\")&&x_q=$(mkdir -m 700 \"$x_d\" 2>&1);then x_v=new;"
	"elif [ -d \"$x_d\" ];then x_v=old;else [ \"$x_q\" ]&&echo \"$x_q\" >&2;x_end none;fi;";

/* A directory that is not in the home: whoever else may write there could take the place of an op, or take
 * it away, so that it starts twice. */
static const char text_own[] =
	"x_l=$(ls -ld \"$x_b/.\" 2>/dev/null);"
	"case $x_l in d\?\?\?\?-\?\?-*)[ -O \"$x_b\" ]&&! [ -h \"$x_b\" ];;*)false;;esac||{ "
	"echo \"exed: $x_b must belong to $(id -un), be no link, and be writable by nobody else\" >&2;"
	"[ $x_v = old ]||rmdir \"$x_d\";x_end none;};";

/* Whoever made the directory may not have written its pid yet: about 5 s for that. After it x_f is end,
 * died or, when it runs, empty. The exit code may come between two looks. */
static const char text_find[] =
	"x_look(){ x_f=end;x_rc&&return;x_f=;x_up&&return;x_f=end;x_rc||x_f=died;};"
	"if [ $x_v = old ];then x_n=0;x_j=;x_k=0;"
	"until [ -e \"$x_d/no\" ]||x_pid \"$x_d\"||x_rc||[ $x_n -ge 9 ];do x_n=$((x_n+1));x_nap;done;"
	"[ -e \"$x_d/no\" ]&&x_end no;x_say old;x_look;";

/* x_a is what comes before; it leaves nothing but its exit code. That counts only while nobody else has
 * taken the place meanwhile: what another start of this op has done is told as the op's. */
static const char text_before[] =
	"if ! [ -d \"$x_d\" ];then (exec /bin/sh -c \" $x_a\");x_r=$?;"
	"[ $x_r = 0 ]||[ -d \"$x_d\" ]||x_end new;x_r=1;fi;";

/* What takes away what the op has left has nothing to say, and changes nothing here. */
static const char text_tidy[] = "x_tidy(){ (eval \" $x_z\") </dev/null >/dev/null 2>&1;};";
static const char text_no_tidy[] = "x_tidy(){ :;};";

/* An op that is there: its output as far as it goes, and on until it has ended. The shell's descriptors
 * keep the place in the files from one cat to the next. What writes the files ends a moment after the
 * command, or much later when a child of that keeps the output open: 2 s for it. */
static const char text_old[] =
	"if [ -r \"$x_d/o\" ]&&[ -r \"$x_d/e\" ];then exec 6<\"$x_d/o\" 7<\"$x_d/e\";"
	"else exec 6</dev/null 7<&6;fi;x_w=.05;"
	"while :;do if [ \"$x_f\" = end ]&&[ \"$x_i\" = \"$x_j\" ];then x_n=0;x_w=.05;"
	"while [ $x_n -lt 6 ]&&{ x_st \"$x_k\"||x_st \"$x_m\";};do x_n=$((x_n+1));x_nap;done;fi;"
	"cat <&6;cat <&7 >&2;[ \"$x_f\" = died ]&&x_tidy;[ \"$x_f\" ]&&x_end $x_f;x_nap;x_look;done;fi;";

static const char text_files[] =
	"x_rc_put(){ true >\"$x_d/rc.$x_r\"||mv \"$x_d/pid\" \"$x_d/rc.$x_r\";};"
	"x_no(){ true 2>/dev/null >\"$x_d/no\";x_end none;};"
	"true >\"$x_d/o\"&&true >\"$x_d/e\"||x_no;x_st $$||x_t=-;x_k=0;x_m=0;";

/* Live: two fifos lead the output to what writes it into the files and to us. They are opened so that no
 * open waits for another, and taken away at once. Without fifos it is the quiet form. */
static const char text_live[] =
	"if mkfifo \"$x_d/1\" \"$x_d/2\" 2>/dev/null;then "
	"exec 6<>\"$x_d/1\" 7<>\"$x_d/2\" 8<\"$x_d/1\" 9<\"$x_d/2\" 3>\"$x_d/1\" 4>\"$x_d/2\" 6>&- 7>&-;"
	"rm -f \"$x_d/1\" \"$x_d/2\";"
	"(trap '' PIPE HUP;exec tee \"$x_d/o\" <&8 2>/dev/null 3>&- 4>&- 8<&- 9<&-)&x_k=$!;"
	"(trap '' PIPE HUP;exec tee \"$x_d/e\" <&9 >&2 2>/dev/null 3>&- 4>&- 8<&- 9<&-)&x_m=$!;"
	"exec 8<&- 9<&-;fi;";

/* Without a whole pid file nothing starts. */
static const char text_begin[] = "echo \"$$ $x_t $x_i $x_k $x_m\" >\"$x_d/pid\"||x_no;";

/* The shell's own remarks ("Killed") belong to nobody's output, so the command's descriptors are set in its
 * own process: dash sets those of a simple command in itself. The command stands before each of these;
 * live is tried first, and quiet is also what is left without fifos. */
static const char text_live_run[] = "if [ $x_k != 0 ];then exec >/dev/null 2>&1;";
static const char text_live_end[] =
	" >&3 2>&4 3>&- 4>&-);x_r=$?;exec 3>&- 4>&-;x_rc_put;else ";
static const char text_quiet_run[] = "exec 3>&2 2>/dev/null;";
static const char text_quiet_end[] =
	" >\"$x_d/o\" 2>\"$x_d/e\" 3>&-);x_r=$?;x_rc_put;cat \"$x_d/o\";cat \"$x_d/e\" >&3;";

/* Old ends, up to 32 of them, but not again within a while of this boot: find looks at every directory.
 * What is no op's directory is let be, and so is an op that runs. %lld: seconds, minutes. */
static const char text_sweep[] =
	"x_u=0;x_j=;x_s=;read -r x_u x_q 2>/dev/null </proc/uptime;"
	"read -r x_j x_s 2>/dev/null <\"$x_b/.swept\";x_u=${x_u%%.*};case $x_s in ''|0?*|*[!0-9]*)x_j=;;esac;"
	"if [ \"$x_i\" != \"$x_j\" ]||[ $((x_u-x_s)) -ge %lld ];then set --;"
	"for x_q in $(cd \"$x_b\"&&find . -mindepth 1 -maxdepth 1 -type d -name '*.*.*.*'"
	" -mmin +%lld 2>/dev/null);do x_q=$x_b/${x_q#./};[ $# -lt 32 ]||break;"
	"[ -e \"$x_q/no\" ]||{ [ -e \"$x_q/o\" ]&&! { x_pid \"$x_q\"&&x_up;};}&&set -- \"$@\" \"$x_q\";done;"
	"[ $# = 32 ]||echo \"$x_i $x_u\" >\"$x_b/.swept\";"
	"[ $# = 0 ]||rm -rf \"$@\" 2>/dev/null;fi;";

/* A directory below `~` or `$HOME` is one on the host; empty there without a HOME. *foreign: it is none of
 * these. */
static int put_dir(struct buf *out, const char *dir, bool *foreign, struct err *err)
{
	const char *below = NULL;

	if (!dir || !*dir)
		dir = FENCE_DIR;
	if (*dir == '~')
		below = dir + 1;
	else if (!strncmp(dir, "$HOME", 5))
		below = dir + 5;
	*foreign = !below;
	if (below ? *below && *below != '/' : *dir != '/')
		return err_set(err, ERR_INVALID,
			       "fence_dir: an absolute path, ~/... or $HOME/..., not %.64s", dir);
	buf_puts(out, below ? "x_b=$HOME" : "x_b=");
	ssh_quote_login(out, below ? below : dir);
	buf_puts(out, below ? ";[ \"$HOME\" ]||x_b=;" : ";");
	return 0;
}

static bool op_id_good(const char *id)
{
	size_t n = strlen(id);

	if (!n || n > FENCE_OP_ID_MAX || *id == '.' || *id == '-')
		return false;
	for (; *id; id++)
		if (!isalnum((unsigned char)*id) && !strchr("._-", *id))
			return false;
	return true;
}

static int put_head(struct buf *out, const char *op_id, const char *dir, const char *before,
		    const char *tidy, struct err *err)
{
	bool foreign;
	int rc;

	if (!op_id || !op_id_good(op_id))
		return err_set(err, ERR_INVALID, "op id: 1 to %u letters, digits, dots, _ and -",
			       FENCE_OP_ID_MAX);
	buf_printf(out, "x_o=%s;", op_id);
	rc = put_dir(out, dir, &foreign, err);
	if (rc)
		return rc;
	buf_puts(out, text_tools);
	if (tidy) {
		buf_puts(out, "x_z=");
		ssh_quote_login(out, tidy);
		buf_putc(out, ';');
	}
	buf_puts(out, tidy ? text_tidy : text_no_tidy);
	if (before) {
		buf_puts(out, "x_a=");
		ssh_quote_login(out, before);
		buf_putc(out, ';');
		buf_puts(out, text_before);
	}
	buf_puts(out, text_place);
	if (foreign)
		buf_puts(out, text_own);
	buf_puts(out, text_find);
	return 0;
}

/* The command's shell is a process of its own, so that $$ in the command is not ours. The blank keeps a
 * first `-` from being an option. */
static void put_run(struct buf *out, const struct fence_command *c, const char *before,
		    const char *after)
{
	buf_puts(out, before);
	buf_puts(out, strlen(c->command) < ARG_MOST ? "(exec /bin/sh -c \" $x_c\"" : "(eval \"$x_c\"");
	if (c->quiet && !c->input)
		buf_puts(out, " </dev/null");
	buf_puts(out, after);
}

/* What the one that made the directory does. */
static void put_start(struct buf *out, const struct fence_command *c)
{
	buf_puts(out, text_files);
	if (!c->quiet)
		buf_puts(out, text_live);
	buf_puts(out, text_begin);
	if (c->sync)
		buf_puts(out, "sync;");
	buf_puts(out, "x_say new;");
	if (!c->quiet)
		put_run(out, c, text_live_run, text_live_end);
	put_run(out, c, text_quiet_run, text_quiet_end);
	if (!c->quiet)
		buf_puts(out, "fi;");
	if (c->ttl_s > 0)
		buf_printf(out, text_sweep,
			   (long long)(c->ttl_s / 8 < SWEEP_EVERY_S ? c->ttl_s / 8 : SWEEP_EVERY_S),
			   (long long)(c->ttl_s / 60));
	buf_puts(out, "exit $x_r");
}

int fence_wrap(struct buf *out, const struct fence_command *c, struct err *err)
{
	int rc;

	/* A POSIX sh reads ssh_quote_login's words right whatever is in them. */
	buf_puts(out, "x_c=");
	ssh_quote_login(out, c->command);
	buf_putc(out, ';');
	rc = put_head(out, c->op_id, c->dir, c->before, c->tidy, err);
	if (rc)
		return rc;
	buf_puts(out, text_old);
	put_start(out, c);
	return out->failed ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}

int fence_forbid(struct buf *out, const char *op_id, const char *dir, const char *tidy,
		 struct err *err)
{
	int rc = put_head(out, op_id, dir, NULL, tidy, err);

	if (rc)
		return rc;
	buf_puts(out, "[ \"$x_f\" = died ]&&x_tidy;x_end ${x_f:-alive};fi;"
		      "true >\"$x_d/no\";x_tidy;x_r=0;x_end new");
	return out->failed ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}

/* ---- the reader ---- */

void fence_reader_init(struct fence_reader *r, const char *op_id)
{
	memset(r, 0, sizeof(*r));
	snprintf(r->start, sizeof(r->start), "exed %.*s ", (int)FENCE_OP_ID_MAX, op_id);
}

void fence_reader_deinit(struct fence_reader *r)
{
	buf_deinit(&r->held);
}

static enum fence_said header_read(const char *word, size_t n)
{
	static const struct { const char *word; enum fence_said said; } words[] = {
		{ "new", FENCE_NEW }, { "old", FENCE_CUT }, { "no", FENCE_NEVER },
		{ "none", FENCE_NO_PLACE },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strlen(words[i].word) == n && !memcmp(words[i].word, word, n))
			return words[i].said;
	return FENCE_NOTHING;
}

/* Cuts off what is no header, and the header once it is whole. */
static void header_find(struct fence_reader *r)
{
	const size_t start = strlen(r->start);
	struct buf *b = &r->held;
	size_t at = 0;

	while (at < b->len && r->said == FENCE_NOTHING) {
		char *p = memmem(b->data + at, b->len - at, r->start, start);
		char *word, *end;
		size_t rest;

		if (!p) { /* its beginning may be here */
			if (b->len - at >= start)
				at = b->len - start + 1;
			break;
		}
		at = (size_t)(p - b->data);
		word = p + start;
		rest = b->len - at - start;
		end = memchr(word, '\n', rest < WORD_MAX ? rest : WORD_MAX);
		if (!end && rest < WORD_MAX)
			break;
		at++;
		if (end)
			r->said = header_read(word, (size_t)(end - word));
		if (r->said != FENCE_NOTHING)
			at = (size_t)(end + 1 - b->data);
	}
	r->noise += at;
	buf_drop(b, at);
}

/* The last line of an old op, when held at `at` is the beginning of one. */
static bool last_begins(const struct fence_reader *r, size_t at, const char *word)
{
	const size_t start = strlen(r->start), n = r->held.len - at;
	const char *p = r->held.data + at;

	if (n <= start)
		return !memcmp(p, r->start, n);
	return n - start <= strlen(word) && !memcmp(p, r->start, start) &&
	       !memcmp(p + start, word, n - start);
}

/* Gives all of an old op's output that cannot belong to its last line. */
static void old_give(struct fence_reader *r, fence_output *output, void *arg)
{
	const size_t most = strlen(r->start) + WORD_MAX;
	struct buf *b = &r->held;
	size_t at = b->len > most ? b->len - most : 0;

	while (at < b->len && !last_begins(r, at, "end\n") && !last_begins(r, at, "died\n") &&
	       !last_begins(r, at, "alive\n"))
		at++;
	if (at)
		output(arg, b->data, at);
	buf_drop(b, at);
}

int fence_reader_feed(struct fence_reader *r, const char *data, size_t n, fence_output *output,
		      void *arg, struct err *err)
{
	if (r->said == FENCE_NEW) {
		if (n)
			output(arg, data, n);
		return 0;
	}
	buf_add(&r->held, data, n);
	if (r->held.failed)
		return err_set(err, ERR_MEMORY, "out of memory");
	if (r->said == FENCE_NOTHING) {
		header_find(r);
		if (r->said == FENCE_NOTHING && r->noise > FENCE_NOISE_MAX)
			return err_set(err, ERR_LIMIT,
				       "the host says more than %u KiB before the fence's header",
				       FENCE_NOISE_MAX / 1024);
		if (r->said == FENCE_NEW && r->held.len) {
			output(arg, r->held.data, r->held.len);
			buf_deinit(&r->held);
		}
	}
	if (r->said == FENCE_CUT && r->held.len)
		old_give(r, output, arg);
	return 0;
}

enum fence_said fence_reader_end(struct fence_reader *r, fence_output *output, void *arg)
{
	static const struct { const char *word; enum fence_said said; } words[] = {
		{ "end\n", FENCE_ENDED }, { "died\n", FENCE_DIED }, { "alive\n", FENCE_ALIVE },
	};
	const size_t start = strlen(r->start);

	if (r->said != FENCE_CUT)
		return r->said;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (r->held.len == start + strlen(words[i].word) && last_begins(r, 0, words[i].word))
			return words[i].said;
	if (r->held.len)
		output(arg, r->held.data, r->held.len);
	buf_clear(&r->held);
	return r->said;
}

const char *fence_said_why(enum fence_said said)
{
	switch (said) {
	case FENCE_NOTHING: return "the fence on the host gave no answer";
	case FENCE_ALIVE: return "it runs on the host";
	case FENCE_DIED: return "died: it was started and left no exit code";
	case FENCE_CUT: return "the fence on the host gave no end of what runs there";
	case FENCE_NEVER: return "not run: its place on the host was taken before it started";
	case FENCE_NO_PLACE: return "no place for the fence";
	case FENCE_NEW:
	case FENCE_ENDED: break;
	}
	return NULL;
}
