/* SPDX-License-Identifier: MIT */
/* config_value: reads the text of a setting as its kind wants it. No state; used while a
 * configuration is being loaded. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config_table.h"
#include "dns.h"

#define BLANKS " \t"

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit durations[] = {
	{ "", 1000 },	 { "ms", 1 },	    { "s", 1000 },	 { "m", 60000 },
	{ "h", 3600000 }, { "d", 86400000 }, { "w", 604800000 }, { NULL, 0 },
};

static const struct unit sizes[] = {
	{ "", 1 },	     { "b", 1 },	  { "k", 1 << 10 },   { "kb", 1 << 10 },
	{ "kib", 1 << 10 },  { "m", 1 << 20 },	  { "mb", 1 << 20 },  { "mib", 1 << 20 },
	{ "g", 1 << 30 },    { "gb", 1 << 30 },	  { "gib", 1 << 30 }, { "t", 1LL << 40 },
	{ "tb", 1LL << 40 }, { "tib", 1LL << 40 }, { NULL, 0 },
};

static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };

/* A whole number with a unit: "10 MiB". -ERR_INVALID when it is none or does not fit. */
static int parse_number(const char *text, const struct unit *units, int64_t *out)
{
	char *end;
	long long n;

	if (!isdigit((unsigned char)*text))
		return -ERR_INVALID;
	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno)
		return -ERR_INVALID;
	end += strspn(end, BLANKS);
	for (; units->name; units++)
		if (!strcasecmp(units->name, end))
			return __builtin_mul_overflow(n, units->factor, out) ? -ERR_INVALID : 0;
	return -ERR_INVALID;
}

static const struct unit *units_of(enum config_kind kind)
{
	if (kind == CONFIG_SIZE)
		return sizes;
	return kind == CONFIG_INTEGER ? plain : durations;
}

static int parse_bounded(const struct setting *s, const char *text, int64_t *out)
{
	if (s->flags & SETTING_NONE && !strcasecmp(text, "none")) {
		*out = 0;
		return 0;
	}
	if (parse_number(text, units_of(s->kind), out))
		return -ERR_INVALID;
	if (s->flags & SETTING_NONE && !*out)
		return 0;
	return *out < s->least || (s->most && *out > s->most) ? -ERR_INVALID : 0;
}

static int parse_boolean(const char *text, int64_t *out)
{
	static const char *const words[] = { "false", "true", "no",  "yes",
					     "off",   "on",   "0", "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (!strcasecmp(words[i], text)) {
			*out = i & 1;
			return 0;
		}
	}
	return -ERR_INVALID;
}

static const char *find_choice(const struct setting *s, const char *text)
{
	/* What Python's logging called them, in files of EXEd. */
	static const char *const others[][2] = {
		{ "warn", "warning" }, { "critical", "error" }, { "fatal", "error" }
	};

	for (size_t i = 0; s->of[i]; i++)
		if (!strcasecmp(s->of[i], text))
			return s->of[i];
	for (size_t i = 0; !strcmp(s->key, "log_level") && i < 3; i++)
		if (!strcasecmp(others[i][0], text))
			return others[i][1];
	return NULL;
}

/* A copy, with "~/" replaced by $HOME. */
static char *copy_path(const char *text)
{
	const char *home = getenv("HOME");
	char *out;

	if (strncmp(text, "~/", 2) || !home)
		return strdup(text);
	return asprintf(&out, "%s%s", home, text + 1) < 0 ? NULL : out;
}

/* ---- lists ---- */

static void free_items(struct config_value *v)
{
	for (size_t i = 0; i < v->count; i++)
		free(v->items[i]);
	free(v->items);
	free(v->lines);
	v->items = NULL;
	v->lines = NULL;
	v->count = 0;
}

/* Takes item. */
static int add_item(struct config_value *v, char *item)
{
	char **items = item ? realloc(v->items, (v->count + 2) * sizeof(*items)) : NULL;

	if (!items) {
		free(item);
		return -ERR_MEMORY;
	}
	items[v->count++] = item;
	items[v->count] = NULL;
	v->items = items;
	return 0;
}

static char *trim(char *text)
{
	size_t n;

	text += strspn(text, BLANKS);
	n = strlen(text);
	while (n && strchr(BLANKS, text[n - 1]))
		text[--n] = '\0';
	return text;
}

static int check_names(const struct setting *s, const char *names)
{
	char *copy = strdup(names), *save = NULL;
	int rc = copy ? 0 : -ERR_MEMORY;
	bool any = false;

	for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; p && !rc;
	     p = strtok_r(NULL, ",", &save)) {
		any = true;
		if (!find_choice(s, trim(p)))
			rc = -ERR_INVALID;
	}
	free(copy);
	return rc || any ? rc : -ERR_INVALID;
}

int config_value_address(const char *text, char *address, size_t cap, int *port,
			 const char **rest)
{
	const char *end = *text == '[' ? strchr(text, ']') : text + strcspn(text, ":" BLANKS);
	const char *start = text + (*text == '[');
	struct in6_addr ip;
	char *after;
	long n;

	if (!strncmp(text, "unix:", 5)) {
		size_t len = strcspn(text, BLANKS);

		/* Longer ones do not fit into a socket's address. */
		if (text[5] != '/' || len >= cap || len - 5 >= 108)
			return -ERR_INVALID;
		snprintf(address, cap, "%.*s", (int)len, text);
		*port = 0;
		*rest = text + len + strspn(text + len, BLANKS);
		return 0;
	}
	if (!end || end == start || (size_t)(end - start) >= cap)
		return -ERR_INVALID;
	memcpy(address, start, (size_t)(end - start));
	address[end - start] = '\0';
	if (*text == '[' && inet_pton(AF_INET6, address, &ip) != 1)
		return -ERR_INVALID;
	end += *text == '[';
	if (end[0] != ':' || !isdigit((unsigned char)end[1]))
		return -ERR_INVALID;
	n = strtol(end + 1, &after, 10);
	if (n > 65535 || !strchr(BLANKS, *after))
		return -ERR_INVALID;
	*port = (int)n;
	*rest = after + strspn(after, BLANKS);
	return 0;
}

static int check_item(const struct setting *s, const char *item)
{
	char address[256];
	const char *rest;
	int port;

	if (s->kind == CONFIG_LISTEN) {
		if (config_value_address(item, address, sizeof(address), &port, &rest))
			return -ERR_INVALID;
		return *rest ? check_names(s, rest) : 0;
	}
	if (s->flags & SETTING_ABSOLUTE && *item != '/')
		return -ERR_INVALID;
	if (s->flags & SETTING_SERVERS && !dns_is_server(item))
		return -ERR_INVALID;
	return s->of && !find_choice(s, item) ? -ERR_INVALID : 0;
}

static int parse_list(const struct setting *s, const char *text, struct config_value *v)
{
	/* A listener has commas of its own. */
	const char *separators = s->kind == CONFIG_LISTEN ? ";" : ",";
	char *copy = strdup(text), *save = NULL;
	int rc = copy ? 0 : -ERR_MEMORY;

	for (char *p = copy ? strtok_r(copy, separators, &save) : NULL; p && !rc;
	     p = strtok_r(NULL, separators, &save)) {
		p = trim(p);
		rc = *p ? check_item(s, p) : -ERR_INVALID;
		if (!rc)
			rc = add_item(v, s->flags & SETTING_PATHS ? copy_path(p) : strdup(p));
	}
	free(copy);
	return rc || v->count ? rc : -ERR_INVALID;
}

/* ---- a time per operation ---- */

static size_t find_operation(const struct setting *s, const char *name, size_t n)
{
	size_t i = 0;

	while (s->of[i] && (strlen(s->of[i]) != n || strncmp(s->of[i], name, n) != 0))
		i++;
	return i;
}

static int parse_limit(const struct setting *s, char *part, struct config_value *v)
{
	size_t n = strcspn(part, "= \t"), i = find_operation(s, part, n);

	if (!s->of[i])
		return -ERR_INVALID;
	part += n;
	part += strspn(part, "= \t");
	return parse_bounded(s, part, &v->numbers[i]);
}

/* What is not named keeps the value it has. */
static int parse_limits(const struct setting *s, const char *text, struct config_value *v)
{
	char *copy = strdup(text), *save = NULL;
	int64_t all;
	int rc = copy ? 0 : -ERR_MEMORY;

	for (size_t i = 0; !rc && !v->numbers && s->of[i]; i++)
		rc = add_item(v, strdup(s->of[i]));
	if (!rc && !v->numbers)
		v->numbers = calloc(v->count, sizeof(*v->numbers));
	if (!v->numbers)
		rc = -ERR_MEMORY;
	if (!rc && !parse_bounded(s, text, &all)) {
		for (size_t i = 0; i < v->count; i++)
			v->numbers[i] = all;
	} else {
		for (char *p = rc ? NULL : strtok_r(copy, ",", &save); p && !rc;
		     p = strtok_r(NULL, ",", &save))
			rc = parse_limit(s, trim(p), v);
	}
	free(copy);
	return rc;
}

/* ---- a value ---- */

static int set_text(struct config_value *v, char *text)
{
	free(v->text);
	v->text = text;
	return text ? 0 : -ERR_MEMORY;
}

static int parse_text(const struct setting *s, const char *text, struct config_value *v)
{
	const char *choice;

	switch (s->kind) {
	case CONFIG_STRING:
		return set_text(v, strdup(text));
	case CONFIG_PATH:
		if (strcmp(text, "-") != 0 || s->flags & SETTING_DASH)
			return set_text(v, copy_path(text));
		/* EXEd's table of settings writes "none" so. */
		free(v->text);
		v->text = NULL;
		return s->otherwise ? -ERR_INVALID : 0;
	case CONFIG_CHOICE:
		choice = find_choice(s, text);
		return choice ? set_text(v, strdup(choice)) : -ERR_INVALID;
	case CONFIG_BOOLEAN:
		return parse_boolean(text, &v->number);
	case CONFIG_LIST:
	case CONFIG_LISTEN:
		return parse_list(s, text, v);
	case CONFIG_LIMITS:
		return parse_limits(s, text, v);
	default:
		return parse_bounded(s, text, &v->number);
	}
}

int config_value_parse(const struct setting *s, const char *text, bool add,
		       struct config_value *v)
{
	bool list = s->kind == CONFIG_LIST || s->kind == CONFIG_LISTEN;

	if (list && !add)
		free_items(v);
	if (*text)
		return parse_text(s, text, v);
	/* Nothing is a value only for what may be unset. */
	if (s->otherwise)
		return -ERR_INVALID;
	free(v->text);
	v->text = NULL;
	return 0;
}

/* A bound in the largest unit that it is a whole number of: 16m, 500ms, 7d. */
static void print_bound(const struct setting *s, int64_t n, char *out, size_t cap)
{
	static const struct unit times[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 },
					     { "s", 1000 },	{ "ms", 1 },	  { NULL, 0 } };
	static const struct unit bytes[] = { { "t", 1LL << 40 }, { "g", 1 << 30 }, { "m", 1 << 20 },
					     { "k", 1 << 10 },	 { "", 1 },	   { NULL, 0 } };
	const struct unit *u = s->kind == CONFIG_SIZE	    ? bytes
			       : s->kind == CONFIG_DURATION ? times
							    : plain;

	while (n ? n % u->factor != 0 : u[1].name != NULL)
		u++;
	snprintf(out, cap, "%lld%s", (long long)(n / u->factor), n ? u->name : "");
}

static void want_bounds(const struct setting *s, char *out, size_t cap)
{
	char least[32], most[32];
	size_t used = strlen(out);

	if (!s->most || s->kind == CONFIG_LIMITS)
		return;
	print_bound(s, s->least, least, sizeof(least));
	print_bound(s, s->most, most, sizeof(most));
	snprintf(out + used, cap - used, ", from %s to %s", least, most);
}

/* Adds the names that there are, with commas between them. */
static void want_names(const struct setting *s, char *out, size_t cap)
{
	for (size_t i = 0; s->of[i]; i++) {
		size_t used = strlen(out);

		snprintf(out + used, cap - used, "%s%s", i ? ", " : "", s->of[i]);
	}
}

void config_value_want(const struct setting *s, char *out, size_t cap)
{
	static const char *const texts[] = {
		[CONFIG_STRING] = "a text",
		[CONFIG_PATH] = "a path",
		[CONFIG_INTEGER] = "a whole number",
		[CONFIG_BOOLEAN] = "true or false",
		[CONFIG_DURATION] = "a time such as 500ms, 90s, 5m, 4h or 2d",
		[CONFIG_SIZE] = "a size such as 4096, 64k, 8m or 1g",
		[CONFIG_LIST] = "a comma list",
		[CONFIG_LISTEN] = "ADDRESS:PORT and perhaps dialects, as in "
				  "`127.0.0.1:16808 exed` or `[::1]:8000 roller,pansible`, or "
				  "unix:/path; the dialects are ",
		[CONFIG_LIMITS] = "one time for all, or a time per operation: "
				  "`execute none, facter 60s, service 5m, deploy 1h`",
	};

	if (s->kind == CONFIG_CHOICE || (s->kind == CONFIG_LIST && s->of)) {
		snprintf(out, cap, s->kind == CONFIG_LIST ? "some of " : "one of ");
		want_names(s, out, cap);
		return;
	}
	if (s->flags & SETTING_ABSOLUTE)
		snprintf(out, cap, "a comma list of absolute paths");
	else if (s->flags & SETTING_SERVERS)
		snprintf(out, cap, "a comma list of addresses such as 10.0.0.2 or 10.0.0.2:5353");
	else
		snprintf(out, cap, "%s%s", texts[s->kind],
			 s->flags & SETTING_NONE && s->kind == CONFIG_DURATION ? " or none" : "");
	if (s->kind == CONFIG_LISTEN)
		want_names(s, out, cap);
	want_bounds(s, out, cap);
}

void config_value_deinit(struct config_value *v)
{
	free_items(v);
	free(v->text);
	free(v->numbers);
	memset(v, 0, sizeof(*v));
}
