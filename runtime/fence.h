/* SPDX-License-Identifier: MIT */
/* fence: what makes an op start once on a host. The command is run by a small POSIX sh text that first
 * makes the op's directory (mkdir decides who starts), and leaves there its pid, its output and its exit
 * code, so that whoever comes later can tell never started, ended, still running, died. Here the text
 * is made, and what it says is read. Pure functions and plain data; any thread, one at a time.
 *
 * The directory, DIR/OP_ID, mode 0700:
 *   o, e    stdout and stderr, whole, byte for byte
 *   pid     one line, written before the command starts: pid of the text's shell, its start time (field
 *           22 of /proc/PID/stat), the boot id, the pids of the two that write o and e (0: none)
 *   rc.N    empty; the command has ended with exit code N. A name takes no room: it can be left on a disk
 *           that the command has filled
 *   no      empty; decided: the op never starts
 *
 * What the text says on stdout, beside the command's own output:
 *   exed OP_ID new     made the directory; what follows is the command's
 *   exed OP_ID old     found it; what follows is stored output, what is still coming, and at its very end
 *                      `exed OP_ID end` (the exit code is the op's) or `exed OP_ID died`; from
 *                      fence_forbid only that line, or `exed OP_ID alive`
 *   exed OP_ID no      found it with `no`: nothing ever ran
 *   exed OP_ID none    there is no place for the fence: nothing ran now; why is on stderr. So it is too when
 *                      DIR is not in the home and is a link, another user's or writable by others
 *
 * DIR/.swept, one line: the boot id, and its uptime in seconds when old ops were last taken away.
 *
 * The exit code comes as soon as the command ends, also when a child of it keeps the output open. */
#ifndef EXED_FENCE_H
#define EXED_FENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

#define FENCE_DIR "$HOME/.exed/ops" /* when none is set */
#define FENCE_OP_ID_MAX 127u
/* What a profile may print before the header, in bytes. */
#define FENCE_NOISE_MAX (64u * 1024u)

struct fence_command {
	const char *op_id;   /* letters, digits, `.`, `_`, `-`, not `.` first; what EXED_OP says too */
	const char *command; /* text for sh */
	const char *before;  /* text for sh that runs first, where the op has no place yet; NULL: none. It gets
			      * the stdin. When its exit code is not 0 no place is taken, and that is the
			      * op's. What it says on stdout is lost. Like the command it is a child of the
			      * text's shell, whose pid both know as PPID */
	const char *tidy;    /* text for sh that takes away what the op has left when it died; x_o is its id, it
			      * is silent and safe to repeat. NULL: none */
	const char *dir;     /* of all fences: absolute, or below `~` or `$HOME`; NULL: FENCE_DIR */
	bool quiet;          /* output into files only, shown after the end: for what starts daemons */
	bool input;          /* quiet: the command gets the stdin; else /dev/null */
	bool sync;           /* the op reboots: what was written must be on the disk before */
	int64_t ttl_s;       /* ends of older ops are taken away, once an hour, 32 at a call; <= 0: none */
};

/* Appends the text for sh that runs c fenced, or joins what runs, or tells how it ended. It is given to
 * ssh_exec or proc as the command, with the op's op_id, env, cwd and input; HOME and PATH in env move the
 * fence's too. A stdin that is there is left alone when the op is old. -ERR_INVALID: op_id or dir;
 * -ERR_MEMORY. */
int fence_wrap(struct buf *out, const struct fence_command *c, struct err *err);
/* Appends the text that takes the op's place, so that it never starts, or tells what it finds. What
 * `before` may have left is taken away by tidy. Given to ssh_exec without an op_id: what looks for the op
 * must not find it. Errors as above. */
int fence_forbid(struct buf *out, const char *op_id, const char *dir, const char *tidy,
		 struct err *err);

enum fence_said {
	FENCE_NOTHING,  /* no header: a profile, a login shell or cwd was in the way, or it was cut off */
	FENCE_NEW,      /* fence_wrap: started now. fence_forbid: never ran, and never will */
	FENCE_ENDED,    /* it was there, and has ended: the exit code is the op's */
	FENCE_ALIVE,    /* fence_forbid only: it runs */
	FENCE_DIED,     /* it was there, and neither runs nor left an exit code: nobody knows what it did */
	FENCE_CUT,      /* it was there, and what told of it ended too early: nothing more is known */
	FENCE_NEVER,    /* it was forbidden before, or had no place: nothing ran */
	FENCE_NO_PLACE, /* the directory cannot be made: nothing ran */
};

/* Reads stdout of either text. */
struct fence_reader {
	char start[FENCE_OP_ID_MAX + 8]; /* "exed OP_ID " */
	enum fence_said said;            /* by its header: FENCE_NOTHING, NEW, CUT (old), NEVER, NO_PLACE */
	size_t noise;                    /* bytes that were cut off */
	struct buf held;                 /* may still be part of a header or of the last line */
};

/* Takes the bytes of the command; they are valid during the call. */
typedef void fence_output(void *arg, const char *data, size_t n);

void fence_reader_init(struct fence_reader *r, const char *op_id);
void fence_reader_deinit(struct fence_reader *r);
/* n bytes of stdout as they came; calls output for those that are the command's. -ERR_LIMIT: too much
 * came before the header; -ERR_MEMORY. After an error the reader is of no more use. */
int fence_reader_feed(struct fence_reader *r, const char *data, size_t n, fence_output *output,
		      void *arg, struct err *err);
/* Stdout has ended: gives what is still held to output (which may be called), and the verdict. */
enum fence_said fence_reader_end(struct fence_reader *r, fence_output *output, void *arg);

/* For people: "no place for the fence", "died: ...". Static; NULL for FENCE_NEW and FENCE_ENDED. */
const char *fence_said_why(enum fence_said said);

#endif
