/* SPDX-License-Identifier: MIT */
/* json_scan: one walk over the bytes, with a stack of where it is. Pure functions; any thread. */
#include "json_scan.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* An array or object that is open. */
struct level {
	bool object;
	bool named;      /* of an object: its present name is whole */
	size_t name, n;  /* where that name is */
	size_t index;    /* of an array: the present item */
};

struct walk {
	const char *text;
	size_t n;
	struct level levels[JSON_DEPTH + 1];
	size_t depth; /* may be more than there are levels */
};

int json_scan_refuse(struct err *err, const char *text, size_t n, size_t at, const char *what)
{
	size_t line = 1, column = 1;
	char place[80];

	for (size_t i = 0; i < at; i++) {
		column = text[i] == '\n' ? 1 : column + 1;
		line += text[i] == '\n';
	}
	json_scan_place(text, n, at, place, sizeof(place));
	return err_set(err, ERR_INVALID, "%s at line %zu column %zu (byte %zu)%s%s%s", what, line,
		       column, at, *place ? ", in '" : "", place, *place ? "'" : "");
}

/* The offset behind the string whose quote is at i; n when it has no end. */
static size_t skip_string(const char *text, size_t n, size_t i)
{
	for (i++; i < n && text[i] != '"'; i++)
		i += text[i] == '\\';
	return i < n ? i + 1 : n;
}

int json_scan_check(const char *text, size_t n, size_t max_values, struct err *err)
{
	size_t depth = 0, values = 1;
	char what[64];

	if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		return json_scan_refuse(err, text, n, 0, "a byte order mark");
	for (size_t i = 0; i < n; i++) {
		char c = text[i];

		if (c == '"') {
			i = skip_string(text, n, i) - 1;
		} else if (c == '[' || c == '{') {
			values++; /* as if it had an item; a comma stands for each further one */
			if (++depth > JSON_DEPTH)
				return json_scan_refuse(err, text, n, i,
							"nested deeper than 64 levels");
		} else if (c == ',') {
			values++;
		} else if ((c == ']' || c == '}') && depth) {
			depth--;
		}
		if (max_values && values > max_values) {
			snprintf(what, sizeof(what), "more than %zu values", max_values);
			return json_scan_refuse(err, text, n, i, what);
		}
	}
	return 0;
}

/* ---- place ---- */

static struct level *top(struct walk *w)
{
	return w->depth && w->depth <= JSON_DEPTH ? &w->levels[w->depth] : NULL;
}

static void open_level(struct walk *w, char c)
{
	struct level *l;

	w->depth++;
	l = top(w);
	if (l)
		*l = (struct level){ .object = c == '{' };
}

/* The string from quote to end (exclusive) belongs to what is open: as its name, or as a value. */
static void take_string(struct walk *w, size_t quote, size_t end)
{
	struct level *l = top(w);

	if (!l || !l->object || l->named)
		return;
	l->named = true;
	l->name = quote + 1;
	l->n = end - quote - 2;
}

static void take_comma(struct walk *w)
{
	struct level *l = top(w);

	if (!l)
		return;
	l->named = false;
	l->index++;
}

static void walk_to(struct walk *w, size_t at)
{
	for (size_t i = 0; i < at && i < w->n;) {
		char c = w->text[i];

		if (c == '"') {
			size_t end = skip_string(w->text, w->n, i);

			if (end > at || end < i + 2)
				return;
			take_string(w, i, end);
			i = end;
			continue;
		}
		if (c == '[' || c == '{')
			open_level(w, c);
		else if ((c == ']' || c == '}') && w->depth)
			w->depth--;
		else if (c == ',')
			take_comma(w);
		i++;
	}
}

/* Appends to out, which has cap bytes of which *len are used; false when it does not all fit. */
static bool put(char *out, size_t cap, size_t *len, const char *s, size_t n)
{
	size_t room = cap - 1 - *len, take = n < room ? n : room;

	for (size_t i = 0; i < take; i++) {
		unsigned char c = (unsigned char)s[i];

		out[(*len)++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	return take == n;
}

void json_scan_place(const char *text, size_t n, size_t at, char *out, size_t cap)
{
	struct walk w = { .text = text, .n = n };
	char index[24];
	size_t len = 0;
	bool all = true;

	walk_to(&w, at);
	for (size_t i = 1; all && i <= w.depth && i <= JSON_DEPTH; i++) {
		const struct level *l = &w.levels[i];

		if (l->object && !l->named)
			break;
		if (l->object && len)
			all = put(out, cap, &len, ".", 1);
		snprintf(index, sizeof(index), "[%zu]", l->index);
		all = all && (l->object ? put(out, cap, &len, text + l->name, l->n) :
					  put(out, cap, &len, index, strlen(index)));
	}
	while (!all && len > cap - 4) /* not inside a character */
		len--;
	while (!all && len && ((unsigned char)out[len] & 0xc0) == 0x80)
		len--;
	if (!all) {
		memcpy(out + len, "...", 3);
		len += 3;
	}
	out[len] = '\0';
}
