/* SPDX-License-Identifier: MIT */
/* config_read: reads the file with inih, and the environment, into one value per setting.
 *
 * inih as Debian builds it has no line numbers for its handler and cuts lines at 200 bytes
 * without a word. So it is fed by a reader of ours that counts lines, refuses what would be cut
 * or overlooked (long lines, NUL, text behind a section's bracket), and inih's own handling of
 * comments inside values, which does not know quotes, is off. Used while a configuration is being
 * loaded, in one thread. */
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_table.h"

#define LINE_BYTES 65536
#define DEFAULT_FILE "exed.conf"
#define MOST_PROBLEMS 20 /* that are told one by one */

extern char **environ;

struct loading {
	struct config *c;
	FILE *file;
	const char *path;
	int line;
	bool in_section;
	bool skip; /* the section is none of ours: its keys would only repeat that */
	int rc;    /* what ends the reading: no memory, no file */
	struct err *err;
};

static const char *const foreign_sections[] = { "roller", "pansible", "mesos" };

#define EXECUTOR_SECTION "executor " /* and the name of the executor whose settings these are */
#define SECTION_MAX 49               /* bytes of a section's name that inih keeps */

/* ---- names ---- */

static size_t smallest(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edits (one character put in, taken out or changed) from a to b; names over 63 bytes are far. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n > 63)
		return 64;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			size_t above = row[j + 1];

			row[j + 1] = smallest(above + 1, row[j] + 1, corner + (a[i] != b[j]));
			corner = above;
		}
	}
	return row[n];
}

struct nearest {
	const char *word, *name;
	size_t best;
};

static void consider(struct nearest *n, const char *name)
{
	size_t d = distance(n->word, name);

	if (d < n->best) {
		n->best = d;
		n->name = name;
	}
}

static struct nearest nearest_to(const char *word)
{
	/* Farther than about a third of it is another word. */
	return (struct nearest){ .word = word, .best = strlen(word) / 3 + 2 };
}

static size_t find_setting(const char *section, const char *key)
{
	size_t i = 0;

	while (i < config_table_size && (strcmp(config_table[i].section, section) != 0 ||
					 strcmp(config_table[i].key, key) != 0))
		i++;
	return i;
}

static bool is_section(const char *name)
{
	for (size_t i = 0; i < config_table_size; i++)
		if (!strcmp(config_table[i].section, name))
			return true;
	return false;
}

static bool is_executor(const char *name)
{
	size_t n = strlen(EXECUTOR_SECTION);

	return !strncmp(name, EXECUTOR_SECTION, n) && name[n] &&
	       !name[n + strspn(name + n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789_-")];
}

/* Whose keys are not in the table, but kept as texts for those that know them. */
static bool is_foreign(const char *name)
{
	if (is_executor(name))
		return true;
	for (size_t i = 0; i < sizeof(foreign_sections) / sizeof(*foreign_sections); i++)
		if (!strcmp(foreign_sections[i], name))
			return true;
	return false;
}

/* EXED_SECTION_KEY */
static void variable_name(const struct setting *s, char *out, size_t cap)
{
	int n = snprintf(out, cap, "EXED_%s_%s", s->section, s->key);

	for (int i = 0; i < n; i++)
		if (out[i] >= 'a' && out[i] <= 'z')
			out[i] = (char)(out[i] - 'a' + 'A');
}

/* ---- what went wrong ---- */

static void tell(struct config *c, const char *line)
{
	if (c->problems++ == 0)
		err_set(&c->first, ERR_INVALID, "%s", line);
	if (c->report && c->problems <= MOST_PROBLEMS)
		c->report(c->report_arg, line);
	else if (c->report && c->problems == MOST_PROBLEMS + 1)
		c->report(c->report_arg, "and more");
}

void config_problem(struct config *c, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tell(c, text);
}

static void fail(struct loading *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct loading *l, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	config_problem(l->c, "%s:%d: %s", l->path, l->line, text);
}

static int no_memory(struct err *err)
{
	return err_set(err, ERR_MEMORY, "no memory for the configuration");
}

int config_warn(struct config *c, const char *fmt, ...)
{
	char **more = realloc(c->warnings, (c->warning_count + 2) * sizeof(*more));
	char *text = NULL;
	va_list ap;

	if (!more)
		return -ERR_MEMORY;
	c->warnings = more;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	more[c->warning_count] = text;
	c->warning_count += text != NULL;
	more[c->warning_count] = NULL;
	return text ? 0 : -ERR_MEMORY;
}

static void unknown_section(struct loading *l, const char *section)
{
	struct nearest n = nearest_to(section);

	for (size_t i = 0; i < config_table_size; i++)
		consider(&n, config_table[i].section);
	if (n.name)
		fail(l, "unknown section [%.40s]; is it [%s]?", section, n.name);
	else
		fail(l, "unknown section [%.40s]; there are api, runner, store, ssh, runtime, "
			"inventory, tasks, log and ansible", section);
}

static void unknown_key(struct loading *l, const char *section, const char *key)
{
	struct nearest n = nearest_to(key);

	for (size_t i = 0; i < config_table_size; i++)
		if (!strcmp(config_table[i].key, key)) {
			fail(l, "`%s` is not a key of [%s] but of [%s]", key, section,
			     config_table[i].section);
			return;
		}
	for (size_t i = 0; i < config_table_size; i++)
		if (!strcmp(config_table[i].section, section))
			consider(&n, config_table[i].key);
	if (n.name)
		fail(l, "unknown key `%.60s` in [%s]; is it `%s`?", key, section, n.name);
	else
		fail(l, "unknown key `%.60s` in [%s]; conf/exed.conf shows all of them", key,
		     section);
}

static void bad_value(const struct setting *s, const char *text, char *out, size_t cap)
{
	char want[192];

	config_value_want(s, want, sizeof(want));
	if (s->flags & SETTING_SECRET)
		snprintf(out, cap, "[%s] %s: want %s", s->section, s->key, want);
	else
		snprintf(out, cap, "[%s] %s: \"%.40s\" will not do; want %s", s->section, s->key,
			 text, want);
}

/* ---- one line of the file ---- */

/* Takes quotes and a comment off, in place. NULL when the quotes do not match. */
static char *clean_value(char *text)
{
	char *p;

	if (*text == '"' || *text == '\'') {
		char *end = strchr(text + 1, *text);

		if (!end)
			return NULL;
		*end++ = '\0';
		p = end + strspn(end, " \t");
		return *p && *p != '#' && *p != ';' ? NULL : text + 1;
	}
	for (p = text; *p; p++) {
		if ((*p == '#' || *p == ';') && (p == text || strchr(" \t", p[-1]))) {
			*p = '\0';
			break;
		}
	}
	while (p > text && strchr(" \t", p[-1]))
		*--p = '\0';
	return text;
}

static int add_foreign(struct loading *l, const char *section, const char *key, const char *text)
{
	struct foreign *f = calloc(1, sizeof(*f));

	if (!f)
		return l->rc = no_memory(l->err);
	*l->c->foreign_last = f;
	l->c->foreign_last = &f->next;
	f->section = strdup(section);
	f->key = strdup(key);
	f->text = strdup(text);
	if (!f->section || !f->key || !f->text)
		return l->rc = no_memory(l->err);
	return 0;
}

/* Each item of a list remembers its line. */
static int note_lines(struct config_value *v, int line)
{
	int *lines = realloc(v->lines, (v->count + 1) * sizeof(*lines));
	size_t known = 0;

	if (!lines)
		return -ERR_MEMORY;
	while (v->lines && lines[known])
		known++;
	for (; known < v->count; known++)
		lines[known] = line;
	lines[v->count] = 0;
	v->lines = lines;
	return 0;
}

static int set_value(struct loading *l, size_t i, const char *text)
{
	const struct setting *s = &config_table[i];
	struct config_value *v = &l->c->values[i];
	bool list = s->kind == CONFIG_LIST || s->kind == CONFIG_LISTEN;
	char why[512];
	int rc;

	if (v->line && !list &&
	    config_warn(l->c, "%s:%d: `%s` is given again; line %d does not count", l->path,
			l->line, s->key, v->line))
		return l->rc = no_memory(l->err);
	rc = config_value_parse(s, text, v->line != 0, v);
	if (!rc && list && *text)
		rc = note_lines(v, l->line);
	if (rc == -ERR_MEMORY)
		return l->rc = no_memory(l->err);
	if (rc) {
		bad_value(s, text, why, sizeof(why));
		fail(l, "%s", why);
	}
	v->line = l->line;
	v->given = true;
	return 0;
}

/* Keys may be written in any case, as EXEd's reader of files took them. */
static void lower(char *key)
{
	for (; *key; key++)
		if (*key >= 'A' && *key <= 'Z')
			*key = (char)(*key - 'A' + 'a');
}

static int set_line(struct loading *l, const char *section, char *key, char *value)
{
	char *text = clean_value(value);
	size_t i;

	if (!text) {
		fail(l, "[%.40s] %.60s: a quote is not closed, or something stands behind it",
		     section, key);
		return 0;
	}
	if (is_foreign(section))
		return add_foreign(l, section, key, text);
	if (!strcmp(section, "api_server"))
		section = "api";
	lower(key);
	i = find_setting(section, key);
	if (i < config_table_size)
		return set_value(l, i, text);
	unknown_key(l, section, key);
	return 0;
}

static int on_line(void *user, const char *section, const char *name, const char *value)
{
	struct loading *l = user;
	char *key, *text;

	if (l->skip || l->rc)
		return l->rc == 0;
	key = strdup(name);
	text = strdup(value);
	if (!key || !text)
		l->rc = no_memory(l->err);
	else
		set_line(l, section, key, text);
	free(key);
	free(text);
	return l->rc == 0;
}

/* A section's line. */
static bool check_section(struct loading *l, const char *text)
{
	const char *end = strchr(text, ']'), *after;
	char name[64];

	l->skip = true;
	if (!end) {
		fail(l, "a section needs a closing bracket");
		return false;
	}
	after = end + 1 + strspn(end + 1, " \t\r\n");
	if (*after && *after != '#' && *after != ';') {
		fail(l, "something stands behind the section's name");
		return false;
	}
	if (end - text - 1 > SECTION_MAX) {
		fail(l, "a section's name has at most %d bytes", SECTION_MAX);
		return false;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(end - text - 1), text + 1);
	l->skip = !is_section(name) && !is_foreign(name) && strcmp(name, "api_server") != 0;
	l->in_section = true;
	if (l->skip)
		unknown_section(l, name);
	return !l->skip;
}

/* What inih would pass over or not tell with its line. False: it must not see the line. */
static bool check_line(struct loading *l, const char *text, size_t n)
{
	if (memchr(text, '\0', n)) {
		fail(l, "a NUL byte; this is no text file");
		return false;
	}
	if (l->line == 1 && !strncmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	text += strspn(text, " \t\r\n");
	if (*text == '[')
		return check_section(l, text);
	if (!*text || *text == '#' || *text == ';' || l->skip)
		return true;
	if (!strpbrk(text, "=:")) {
		fail(l, "neither [section] nor key = value");
		return false;
	}
	if (!l->in_section) {
		l->skip = true;
		fail(l, "a setting before the first [section]; is it in [api]?");
	}
	return !l->skip;
}

/* One whole line per call, so that l->line is the line that on_line is called for. */
static char *read_line(char *out, int cap, void *stream)
{
	struct loading *l = stream;
	size_t n = 0;
	int ch = EOF;

	if (l->rc)
		return NULL;
	while (n + 1 < (size_t)cap && ch != '\n' && (ch = getc(l->file)) != EOF)
		out[n++] = (char)ch;
	if (!n)
		return NULL;
	out[n] = '\0';
	l->line++;
	if (ch != '\n' && ch != EOF) {
		fail(l, "this line is longer than %d bytes", LINE_BYTES - 3);
		while (ch != '\n' && ch != EOF)
			ch = getc(l->file);
		strcpy(out, "\n");
	} else if (!check_line(l, out, n)) {
		strcpy(out, "\n");
	}
	return out;
}

static int parse_file(struct loading *l)
{
	bool stack = ini_use_stack, multi = ini_allow_multiline;
	bool comments = ini_allow_inline_comments, stop = ini_stop_on_first_error;
	int most = ini_max_line, first = ini_initial_alloc, line;

	ini_use_stack = false;
	ini_max_line = LINE_BYTES;
	ini_initial_alloc = LINE_BYTES;
	ini_allow_multiline = false;
	ini_allow_inline_comments = false;
	ini_stop_on_first_error = false;
	line = ini_parse_stream(read_line, l, on_line, l);
	ini_use_stack = stack;
	ini_max_line = most;
	ini_initial_alloc = first;
	ini_allow_multiline = multi;
	ini_allow_inline_comments = comments;
	ini_stop_on_first_error = stop;
	if (line < 0 && !l->rc)
		l->rc = no_memory(l->err);
	if (!l->rc && ferror(l->file))
		l->rc = err_errno(l->err, "cannot read %s", l->path);
	return l->rc;
}

int config_read_file(struct config *c, const char *path, struct err *err)
{
	struct loading l = { .c = c, .path = path ? path : DEFAULT_FILE, .err = err };

	l.file = fopen(l.path, "re");
	if (!l.file && errno == ENOENT)
		return path ? err_set(err, ERR_NOT_FOUND, "there is no file %s", path) : 0;
	if (!l.file)
		return err_errno(err, "cannot open %s", l.path);
	c->path = strdup(l.path);
	if (c->path)
		parse_file(&l);
	else
		l.rc = no_memory(err);
	fclose(l.file);
	return l.rc;
}

/* ---- the environment ---- */

static int set_variable(struct config *c, size_t i, const char *name, const char *text,
			struct err *err)
{
	const struct setting *s = &config_table[i];
	char why[512];
	int rc = config_value_parse(s, text, false, &c->values[i]);

	c->values[i].given = c->values[i].env = true;
	if (rc == -ERR_MEMORY)
		return no_memory(err);
	if (rc) {
		bad_value(s, text, why, sizeof(why));
		config_problem(c, "environment variable %s: %s", name, why);
	}
	return 0;
}

const char *config_where(const struct config *c, const char *section, const char *key, char *out,
			 size_t cap)
{
	size_t i = find_setting(section, key);
	const struct config_value *v = &c->values[i];
	char name[96];

	variable_name(&config_table[i], name, sizeof(name));
	if (v->env)
		snprintf(out, cap, "environment variable %s", name);
	else if (v->line)
		snprintf(out, cap, "%s:%d: [%s] %s", c->path, v->line, section, key);
	else
		snprintf(out, cap, "[%s] %s", section, key);
	return out;
}

/* What exed and its tests use themselves: EXED_OP marks a command's processes, EXED_TOKEN_FILE is
 * exed-run's. */
static bool is_own_variable(const char *name)
{
	static const char *const own[] = { "EXED_OP", "EXED_BUILD", "EXED_SANITIZER",
					   "EXED_TOKEN_FILE" };

	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (!strcmp(own[i], name))
			return true;
	return !strncmp(name, "EXED_TEST", 9);
}

static int read_variable(struct config *c, const char *name, const char *text, struct err *err)
{
	struct nearest n = nearest_to(name);
	char known[96], best[128] = "";

	for (size_t i = 0; i < config_table_size; i++) {
		size_t before = n.best;

		variable_name(&config_table[i], known, sizeof(known));
		if (!strcmp(known, name))
			return set_variable(c, i, name, text, err);
		consider(&n, known);
		if (n.best < before)
			snprintf(best, sizeof(best), "; is it %s?", known);
	}
	if (is_own_variable(name))
		return 0;
	if (config_warn(c, "unknown environment variable %.60s%s", name, best))
		return no_memory(err);
	return 0;
}

int config_read_environment(struct config *c, struct err *err)
{
	char name[128];
	int rc = 0;

	for (char **e = environ; e && *e && !rc; e++) {
		size_t n = strcspn(*e, "=");

		if (strncmp(*e, "EXED_", 5) != 0 || n >= sizeof(name))
			continue;
		memcpy(name, *e, n);
		name[n] = '\0';
		rc = read_variable(c, name, *e + n + ((*e)[n] == '='), err);
	}
	return rc;
}
