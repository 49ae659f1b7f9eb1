/* SPDX-License-Identifier: MIT */
/* record: collects what one command says and turns it into entries for the results stream: parts while
 * it runs (only when the output is long or lines are wanted), then one record, as final JSON. Used by
 * one thread at a time: the host's I/O thread, or the loop thread for local commands. */
#ifndef EXED_RECORD_H
#define EXED_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "mask.h"
#include "pool.h"
#include "ssh.h"

/* Operation states of the API. */
enum record_status {
	STATUS_NO_MATCH = -1,
	STATUS_ANNOUNCE = 0,
	STATUS_OK = 1,
	STATUS_SKIPPED = 2,
	STATUS_FAILED = 3,
	STATUS_UNREACHABLE = 4,
	STATUS_CHANGED = 5,
};

/* Output up to this many bytes of a stream travels inside the record; beyond, in parts. */
#define RECORD_INLINE (32 * 1024)
/* The longest part. */
#define RECORD_PART (48 * 1024)

enum entry_kind { ENTRY_RECORD, ENTRY_PART };

/* One entry of the results stream, made by a host's run and owned by whoever holds it. */
struct entry {
	struct work work;   /* fanout.c's, to travel to the loop */
	struct entry *next; /* fanout.c's and the sink's */
	void *run;          /* fanout.c's */
	enum entry_kind kind;
	unsigned index;     /* of the target in its job */
	unsigned effect;    /* fanout.c's: of a target that was added, else 0 */
	int status;         /* record: enum record_status */
	bool away;          /* record, STATUS_UNREACHABLE: nothing answers there, as against a host that is
			     * there and does not let us in, or a way to it that is not known */
	unsigned parts;     /* record: which streams are in parts, and need base64; ENTRY_PARTS_x */
	int stream;         /* part: enum ssh_stream */
	uint64_t offset;    /* part: in the stream, bytes */
	char *data;         /* record: JSON object; part: the bytes as they came */
	size_t len;
};
#define ENTRY_PARTS_STDOUT 1u
#define ENTRY_PARTS_STDERR 2u
#define ENTRY_BINARY_STDOUT 4u /* not UTF-8: a reader adds stdout_b64 */
#define ENTRY_BINARY_STDERR 8u

void entry_free(struct entry *e);

struct verdict { int code; int status; };

/* What a record is made by; part of the plan, immutable while the fan-out lives. */
struct record_rules {
	const struct verdict *verdicts; /* exit codes with a status of their own */
	size_t nverdicts;
	int otherwise;                  /* status of every other exit code */
	bool command;                   /* there is one: rtc, stdout and stderr belong to the record */
	bool lines;                     /* output goes out as it comes, in whole lines where it can */
	bool look;                      /* the op was a lost node's: only what is left of it is told */
	bool quiet_record;              /* of a success only status and times are told; a failure's error
					 * is the end of what it said */
	bool tell_code;                 /* with quiet_record: an exit code that is not 0 is told of a success, too */
	bool facts;                     /* stdout is a host's facts (facts.h), which a success's record
					 * has as JSON; wants quiet_record, and not lines */
	bool json;                      /* stdout is a JSON object, whose fields the record has, too
					 * (record_fields.h) */
	uint64_t output_cap;            /* bytes kept of each stream, unless cut later */
	const struct mask *mask;        /* what output must not show, or NULL */
};

struct record_stream {
	struct buf held;   /* not yet given away */
	struct buf masked; /* the mask's: may be the beginning of what is hidden */
	uint64_t cap;      /* the last one given */
	uint64_t bytes;    /* that came, after the mask */
	uint64_t kept;     /* of them within the cap */
	uint64_t offset;   /* of held in the stream */
	bool parted;       /* some of it went out as a part */
	bool lost;         /* memory was out: nothing is kept from there on */
	bool binary;       /* some part of it was not UTF-8 */
};

struct record {
	const struct record_rules *rules;
	unsigned index;
	int64_t start_us; /* wall clock; 0: nothing started */
	int64_t start_ms; /* monotonic */
	struct record_stream out, err;
	bool hold; /* with lines: the last part has not been taken yet, so that new lines wait for it */
};

void record_init(struct record *r, const struct record_rules *rules, unsigned index);
void record_deinit(struct record *r);
void record_start(struct record *r); /* stamps the start of the command */

/* Takes n bytes of output, of which those within the first `cap` of the stream are kept; returns a list (by next) of parts to send now, or NULL. */
struct entry *record_output(struct record *r, enum ssh_stream stream, const char *data, size_t n,
			    uint64_t cap);
/* With lines: those that waited while `hold` was set: a list of parts, or NULL. */
struct entry *record_lines(struct record *r);
/* The output has ended: what of it must go before the record, a list of parts, or NULL. */
struct entry *record_flush(struct record *r);

/* The one record, after record_flush. NULL when memory is out. */
struct entry *record_end(struct record *r, const struct ssh_result *result);
/* For a host of which nobody knows how its op ended. */
struct entry *record_unknown(unsigned index, const char *error);
/* For a host on which nothing ran: status and, when not NULL, the reason. */
struct entry *record_plain(unsigned index, int status, const char *error);

#endif
