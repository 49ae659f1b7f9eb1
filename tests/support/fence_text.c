/* SPDX-License-Identifier: MIT */
/* fence_text: the fence's text and its reader for tests that run the text without exed.
 *
 *   fence_text wrap FLAGS OP_ID DIR TTL   the text for the command on stdin; FLAGS: w, or some of q (quiet),
 *                                         i (input), s (sync)
 *   fence_text forbid OP_ID DIR
 *   fence_text line OP_ID     a text on stdin as ssh_exec sends it: the exec request, a newline, and what
 *                             goes to its stdin first
 *   fence_text read OP_ID     what a text said on stdin: the command's bytes on stdout, and on stderr one
 *                             line, the number of enum fence_said and the bytes of noise
 * An empty DIR is the default. FENCE_TIDY in the environment is what tidies up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fence.h"
#include "ssh_quote.h"

static int complain(const struct err *err)
{
	fprintf(stderr, "%s\n", err->message);
	return 1;
}

static int show(struct buf *b)
{
	fwrite(b->data, 1, b->len, stdout);
	buf_deinit(b);
	return 0;
}

static void read_stdin(struct buf *b)
{
	char data[4096];
	size_t n;

	while ((n = fread(data, 1, sizeof(data), stdin)))
		buf_add(b, data, n);
}

static int make_wrap(char **v)
{
	struct buf command = {0}, b = {0};
	struct err err = {0};
	struct fence_command c = {
		.op_id = v[1], .dir = v[2], .ttl_s = atoll(v[3]),
		.tidy = getenv("FENCE_TIDY"), .quiet = strchr(v[0], 'q'), .input = strchr(v[0], 'i'), .sync = strchr(v[0], 's'),
	};
	int rc;

	read_stdin(&command);
	c.command = buf_str(&command);
	rc = fence_wrap(&b, &c, &err);
	buf_deinit(&command);
	return rc ? complain(&err) : show(&b);
}

static int make_line(const char *op_id)
{
	struct buf text = {0}, line = {0}, head = {0};
	struct err err = {0};

	read_stdin(&text);
	if (ssh_quote_command(&line, &head, buf_str(&text), op_id, NULL, NULL, &err))
		return complain(&err);
	buf_putc(&line, '\n');
	buf_deinit(&text);
	show(&line);
	return show(&head);
}

static void put(void *arg, const char *data, size_t n)
{
	fwrite(data, 1, n, arg);
	fflush(arg);
}

static int read_all(const char *op_id)
{
	struct fence_reader r;
	struct err err = {0};
	char data[4096];
	ssize_t n;

	fence_reader_init(&r, op_id);
	while ((n = read(0, data, sizeof(data))) > 0)
		if (fence_reader_feed(&r, data, (size_t)n, put, stdout, &err))
			return complain(&err);
	fprintf(stderr, "%d %zu\n", fence_reader_end(&r, put, stdout), r.noise);
	fence_reader_deinit(&r);
	return 0;
}

int main(int argc, char **argv)
{
	struct buf b = {0};
	struct err err = {0};

	if (argc == 6 && !strcmp(argv[1], "wrap"))
		return make_wrap(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "forbid"))
		return fence_forbid(&b, argv[2], argv[3], getenv("FENCE_TIDY"), &err) ? complain(&err) : show(&b);
	if (argc == 3 && !strcmp(argv[1], "line"))
		return make_line(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "read"))
		return read_all(argv[2]);
	fprintf(stderr, "usage: fence_text wrap|forbid|line|read ...\n");
	return 2;
}
