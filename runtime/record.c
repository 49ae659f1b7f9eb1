/* SPDX-License-Identifier: MIT */
/* record: output in, JSON out. Owns the bytes that it holds until they are given away in an entry. */
#include "record.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facts.h"
#include "loop.h"
#include "metrics.h"
#include "record_fields.h"

/* Of output that was to be facts and is none, a person gets this much. */
#define NO_FACTS_MAX 4096

void entry_free(struct entry *e)
{
	if (e)
		free(e->data);
	free(e);
}

void record_init(struct record *r, const struct record_rules *rules, unsigned index)
{
	memset(r, 0, sizeof(*r));
	r->rules = rules;
	r->index = index;
}

void record_deinit(struct record *r)
{
	buf_deinit(&r->out.held);
	buf_deinit(&r->out.masked);
	buf_deinit(&r->err.held);
	buf_deinit(&r->err.masked);
}

void record_start(struct record *r)
{
	r->start_us = loop_wall_us();
	r->start_ms = loop_now_ms();
}

/* ---- parts ---- */

/* How many of the first n bytes end with a whole UTF-8 sequence, so that a character is not cut in two
 * by a part's end. Bytes that are no UTF-8 are not waited for. */
static size_t whole_characters(const char *data, size_t n)
{
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)data[n - back];

		if (c < 0x80)
			return n;
		if (c >= 0xc0) {
			size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

			return back < need ? n - back : n;
		}
	}
	return n;
}

/* The length of the whole lines at the start that fit in a part. */
static size_t whole_lines(const struct buf *b)
{
	size_t n = b->len < RECORD_PART ? b->len : RECORD_PART;
	const char *at = n ? memrchr(b->data, '\n', n) : NULL;

	return at ? (size_t)(at - b->data) + 1 : 0;
}

/* Gives the first n held bytes away as a part. */
static struct entry *make_part(struct record *r, enum ssh_stream stream, size_t n)
{
	struct record_stream *s = stream == SSH_STDOUT ? &r->out : &r->err;
	struct entry *e = calloc(1, sizeof(*e));

	if (!e || !(e->data = malloc(n))) {
		free(e);
		return NULL;
	}
	memcpy(e->data, s->held.data, n);
	s->binary = s->binary || !buf_is_utf8(e->data, n);
	e->kind = ENTRY_PART;
	e->index = r->index;
	e->stream = stream;
	e->offset = s->offset;
	e->len = n;
	buf_drop(&s->held, n);
	s->offset += n;
	s->parted = true;
	return e;
}

/* The length of the next part to send now, or 0. */
static size_t due(const struct record *r, const struct record_stream *s, bool all)
{
	size_t n = s->held.len, lines;
	bool full = n > (s->parted ? RECORD_PART : RECORD_INLINE);

	if (r->rules->facts || (r->rules->json && s == &r->out))
		return 0;
	if (all && s->parted && n <= RECORD_PART)
		return n;
	if (r->rules->lines && (full || !r->hold)) {
		lines = whole_lines(&s->held);
		if (lines)
			return lines;
	}
	if (!full)
		return 0;
	n = n < RECORD_PART ? n : RECORD_PART;
	return whole_characters(s->held.data, n);
}

static struct entry *take_parts(struct record *r, enum ssh_stream stream, bool all)
{
	struct record_stream *s = stream == SSH_STDOUT ? &r->out : &r->err;
	struct entry *first = NULL, **last = &first;
	size_t n;

	while ((n = due(r, s, all)) > 0 && (*last = make_part(r, stream, n)))
		last = &(*last)->next;
	return first;
}

/* Keeps what is within the cap. */
static void keep_output(struct record_stream *s, const char *data, size_t n)
{
	uint64_t room = s->cap > s->kept && !s->lost ? s->cap - s->kept : 0;
	size_t keep = n < room ? n : (size_t)room;

	s->bytes += n;
	buf_add(&s->held, data, keep);
	if (!s->held.failed) {
		s->kept += keep;
		return;
	}
	s->held.failed = false; /* what it holds is good */
	s->lost = true;
}

static void keep_masked(struct record *r, struct record_stream *s, const char *data, size_t n, bool end)
{
	struct buf shown = { 0 };

	mask_stream(r->rules->mask, &s->masked, data, n, end, &shown);
	keep_output(s, shown.data, shown.len);
	s->lost = s->lost || shown.failed;
	buf_deinit(&shown);
}

/* No more output comes. */
static void end_output(struct record *r)
{
	if (!r->rules->mask)
		return;
	keep_masked(r, &r->out, "", 0, true);
	keep_masked(r, &r->err, "", 0, true);
}

struct entry *record_output(struct record *r, enum ssh_stream stream, const char *data, size_t n,
			    uint64_t cap)
{
	struct record_stream *s = stream == SSH_STDOUT ? &r->out : &r->err;

	s->cap = cap;
	if (r->rules->facts)
		s->cap = stream == SSH_STDOUT ? FACTS_MAX : NO_FACTS_MAX;
	else if (r->rules->json && stream == SSH_STDOUT)
		s->cap = r->rules->output_cap < RECORD_FIELDS_MAX ? r->rules->output_cap :
								    RECORD_FIELDS_MAX;
	metric_add(stream == SSH_STDOUT ? METRIC_OUTPUT_STDOUT : METRIC_OUTPUT_STDERR, (int64_t)n);
	if (r->rules->mask)
		keep_masked(r, s, data, n, false);
	else
		keep_output(s, data, n);
	return take_parts(r, stream, false);
}

static struct entry *take_both(struct record *r, bool all)
{
	struct entry *first, **last = &first;

	r->hold = false;
	first = take_parts(r, SSH_STDOUT, all);
	while (*last)
		last = &(*last)->next;
	*last = take_parts(r, SSH_STDERR, all);
	return first;
}

struct entry *record_lines(struct record *r)
{
	return r->rules->lines ? take_both(r, false) : NULL;
}

struct entry *record_flush(struct record *r)
{
	end_output(r);
	return take_both(r, true);
}

/* ---- the record ---- */

static int signal_number(const char *name)
{
	static const struct { const char *name; int number; } known[] = {
		{ "ABRT", SIGABRT }, { "ALRM", SIGALRM }, { "BUS", SIGBUS },   { "FPE", SIGFPE },
		{ "HUP", SIGHUP },   { "ILL", SIGILL },   { "INT", SIGINT },   { "KILL", SIGKILL },
		{ "PIPE", SIGPIPE }, { "QUIT", SIGQUIT }, { "SEGV", SIGSEGV }, { "TERM", SIGTERM },
		{ "TRAP", SIGTRAP }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "SYS", SIGSYS },
		{ "XCPU", SIGXCPU }, { "XFSZ", SIGXFSZ },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(name, known[i].name))
			return known[i].number;
	return 0;
}

static int judge(const struct record_rules *rules, int code)
{
	for (size_t i = 0; i < rules->nverdicts; i++)
		if (rules->verdicts[i].code == code)
			return rules->verdicts[i].status;
	return rules->otherwise;
}

static int status_of(const struct record_rules *rules, const struct ssh_result *res)
{
	if (rules->look)
		return STATUS_FAILED;
	if (!res->sent && res->err.code == ERR_CANCELLED)
		return STATUS_SKIPPED;
	if (!res->sent && res->err.code)
		return STATUS_UNREACHABLE;
	if (res->timed_out || res->cancelled || res->signal[0] || res->err.code || !res->exited)
		return rules->command ? STATUS_FAILED : STATUS_OK;
	return judge(rules, res->code);
}

/* Started, and not known how it ended: the connection went, or it ended without an exit status. */
static bool is_unknown(const struct ssh_result *res)
{
	return res->sent && !res->exited && !res->signal[0] && !res->timed_out && !res->cancelled;
}

/* What every record has is put without printf, which would be a tenth of what a host costs on its thread. */
static void put_number(struct buf *b, const char *name, int v)
{
	buf_puts(b, name);
	buf_integer(b, v);
}

/* As seconds with three digits behind the point. */
static void put_ms(struct buf *b, const char *name, int64_t ms)
{
	const char rest[] = { '.', (char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10),
			      (char)('0' + ms % 10) };

	buf_puts(b, name);
	buf_integer(b, ms / 1000);
	buf_add(b, rest, sizeof(rest));
}

static void put_rtc(struct buf *b, const struct ssh_result *res)
{
	if (res->timed_out)
		buf_puts(b, ",\"rtc\":124,\"timed_out\":true");
	else if (res->signal[0])
		buf_printf(b, ",\"rtc\":%d,\"signal\":\"%s\"", 128 + signal_number(res->signal),
			   res->signal);
	else if (res->exited)
		put_number(b, ",\"rtc\":", res->code);
}

static void put_error(struct buf *b, const char *error)
{
	buf_puts(b, ",\"error\":");
	buf_json_string(b, error, strlen(error));
}

/* The last of a text that a person gets as the reason of a failure, in bytes. */
#define SAID_MAX 1024

/* The end of what is held, in whole lines when it has to be cut, without blanks around it. */
static bool put_said(struct buf *b, const struct buf *held)
{
	const char *s = held->data, *line;
	size_t n = held->len;

	while (n && (unsigned char)s[n - 1] <= ' ')
		n--;
	if (n > SAID_MAX) {
		s += n - SAID_MAX;
		n = SAID_MAX;
		line = memchr(s, '\n', n);
		while (!line && n && ((unsigned char)*s & 0xc0) == 0x80) {
			s++;
			n--;
		}
		if (line) {
			n -= (size_t)(line + 1 - s);
			s = line + 1;
		}
	}
	for (; n && (unsigned char)*s <= ' '; n--)
		s++;
	if (!n)
		return false;
	buf_puts(b, ",\"error\":");
	buf_json_string(b, s, n);
	return true;
}

/* A failure in the words of the command. */
static void put_words(struct buf *b, const struct record *r, const struct ssh_result *res)
{
	char text[40];

	if (put_said(b, &r->err.held) || put_said(b, &r->out.held) || !res->exited)
		return;
	snprintf(text, sizeof(text), "it ended with exit code %d", res->code);
	put_error(b, text);
}

static void put_killed(struct buf *b, const struct ssh_result *res)
{
	if (res->cancelled)
		buf_puts(b, ",\"cancelled\":true");
	if (res->killed_by)
		buf_printf(b, ",\"killed\":%s", res->killed ? "true" : "false");
	if ((res->killed || res->looked) && res->survivors >= 0)
		buf_printf(b, ",\"survivors\":%d", res->survivors);
	if (res->killed && res->possible > 0)
		buf_printf(b, ",\"survivors_unknown\":%d", res->possible);
	if (res->killed_by)
		buf_printf(b, ",\"killed_by\":\"%s\"", res->killed_by);
}

/* Whether some of it reaches nobody: it is over its cap, or memory was out. */
static bool is_cut(const struct record_stream *s)
{
	return s->bytes > s->kept || s->lost || (s->parted && s->held.len);
}

static unsigned put_stream(struct buf *b, const char *name, struct record_stream *s,
			   unsigned parts, unsigned binary)
{
	unsigned flags = 0;

	if (s->bytes > s->kept || s->parted)
		buf_printf(b, ",\"%s_bytes\":%llu", name, (unsigned long long)s->bytes);
	if (s->parted) {
		flags |= parts;
		if (s->binary)
			flags |= binary;
		return flags;
	}
	buf_puts(b, ",\"");
	buf_puts(b, name);
	buf_puts(b, "\":");
	if (!buf_json_string(b, s->held.data, s->held.len)) {
		buf_printf(b, ",\"%s_b64\":\"", name);
		buf_base64(b, s->held.data, s->held.len);
		buf_putc(b, '"');
	}
	return flags;
}

static void put_times(struct buf *b, const struct record *r)
{
	if (!r->start_us)
		return;
	put_ms(b, ",\"started\":", (r->start_us + 500) / 1000);
	put_ms(b, ",\"seconds\":", loop_now_ms() - r->start_ms);
}

static bool is_good(int status)
{
	return status == STATUS_OK || status == STATUS_CHANGED;
}

/* So much of output that is told as it came, whatever it was to be. */
static void keep_inline(struct record_stream *s, size_t most)
{
	if (!s->held.data || s->held.len <= most)
		return;
	s->held.len = whole_characters(s->held.data, most);
	s->kept = s->held.len;
}

/* The facts as JSON, and the status: without them there is no success. */
static int read_facts(struct record *r, int status, struct buf *facts, struct err *err)
{
	struct record_stream *out = &r->out;

	if (is_good(status) && out->lost)
		err_set(err, ERR_MEMORY, "not enough memory for its facts");
	else if (is_good(status) && out->bytes > out->kept)
		err_set(err, ERR_INVALID, "its facts are longer than %d bytes", FACTS_MAX);
	else if (is_good(status) && !facts_parse(out->held.data, out->held.len, facts, err))
		return status;
	keep_inline(out, NO_FACTS_MAX);
	return STATUS_FAILED;
}

/* The fields that stdout has for the record, and the status: what cannot be merged is no success. Of what was
 * merged nothing is left to be told. */
static int read_fields(struct record *r, int status, struct buf *fields, struct err *err)
{
	struct record_stream *out = &r->out;
	struct err why;

	if (!out->bytes && !is_good(status))
		return status;
	if (out->bytes > out->kept) {
		err_set(err, ERR_INVALID, "its stdout is longer than the %llu bytes that are read as JSON",
			(unsigned long long)out->kept);
	} else if (!record_fields(fields, out->held.data ? out->held.data : "", out->held.len, &why)) {
		buf_clear(&out->held);
		out->bytes = out->kept = 0;
		return status;
	} else {
		err_set(err, ERR_INVALID, "its stdout cannot be merged into the record: %s", why.message);
	}
	keep_inline(out, RECORD_INLINE);
	return STATUS_FAILED;
}

static struct entry *finish(struct buf *b, unsigned index, int status, unsigned parts)
{
	struct entry *e = calloc(1, sizeof(*e));

	buf_putc(b, '}');
	if (e)
		e->data = buf_take(b, &e->len);
	if (!e || !e->data) {
		buf_deinit(b);
		free(e);
		return NULL;
	}
	e->kind = ENTRY_RECORD;
	e->index = index;
	e->status = status;
	e->parts = parts;
	return e;
}

/* A cancel that came too late: while its host was asked to kill it, it ended well by itself, and nothing
 * of it is left. Told as a failure it would be run again. Whoever was killed has a code of 128 and more. */
static bool has_ended_well(const struct record_rules *rules, const struct ssh_result *res)
{
	return res->cancelled && !res->timed_out && res->killed && res->survivors == 0 &&
	       res->exited && !res->signal[0] && is_good(judge(rules, res->code));
}

struct entry *record_end(struct record *r, const struct ssh_result *result)
{
	struct ssh_result end = *result, *res = &end;
	struct buf b = { 0 }, facts = { 0 }, fields = { 0 };
	struct err no_facts = { 0 };
	unsigned parts = 0;
	int status;
	bool told;

	if (has_ended_well(r->rules, res)) {
		res->cancelled = res->killed = false;
		res->killed_by = NULL;
		res->err.code = 0;
	}
	status = status_of(r->rules, res);
	if (r->start_ms)
		metric_observe(METRIC_TIME_EXEC, (loop_now_ms() - r->start_ms) * 1000);
	if (r->rules->facts && res->sent)
		status = read_facts(r, status, &facts, &no_facts);
	else if (r->rules->json && res->sent)
		status = read_fields(r, status, &fields, &no_facts);
	told = r->rules->command && res->sent && !(r->rules->quiet_record && is_good(status));
	put_number(&b, "{\"status\":", status);
	if (r->rules->look) {
		buf_puts(&b, ",\"unknown\":true");
		put_killed(&b, res);
		put_error(&b, res->err.message);
		return finish(&b, r->index, status, 0);
	}
	if (told || (r->rules->tell_code && res->exited && res->code))
		put_rtc(&b, res);
	put_killed(&b, res);
	if (r->rules->command && is_unknown(res))
		buf_puts(&b, ",\"unknown\":true");
	if (res->output_open)
		buf_puts(&b, ",\"output_open\":true");
	if (told && (is_cut(&r->out) || is_cut(&r->err)))
		buf_puts(&b, ",\"truncated\":true");
	if (status != STATUS_OK && res->err.message[0] && res->err.code)
		put_error(&b, res->err.message);
	else if (no_facts.code)
		put_error(&b, no_facts.message);
	else if (told && r->rules->quiet_record)
		put_words(&b, r, res);
	put_times(&b, r);
	if (facts.len) {
		buf_puts(&b, ",\"facts\":");
		buf_add(&b, facts.data, facts.len);
	}
	b.failed = b.failed || facts.failed;
	buf_deinit(&facts);
	if (told) {
		parts = put_stream(&b, "stdout", &r->out, ENTRY_PARTS_STDOUT, ENTRY_BINARY_STDOUT);
		parts |= put_stream(&b, "stderr", &r->err, ENTRY_PARTS_STDERR,
				    ENTRY_BINARY_STDERR);
	}
	buf_add(&b, fields.data, fields.len); /* behind exed's own, for who looks for those */
	b.failed = b.failed || fields.failed;
	buf_deinit(&fields);
	return finish(&b, r->index, status, parts);
}

struct entry *record_plain(unsigned index, int status, const char *error)
{
	struct buf b = { 0 };

	put_number(&b, "{\"status\":", status);
	if (error)
		put_error(&b, error);
	return finish(&b, index, status, 0);
}

struct entry *record_unknown(unsigned index, const char *error)
{
	struct buf b = { 0 };

	buf_printf(&b, "{\"status\":%d,\"unknown\":true", STATUS_FAILED);
	put_error(&b, error);
	return finish(&b, index, STATUS_FAILED, 0);
}
