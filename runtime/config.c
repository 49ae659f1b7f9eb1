/* SPDX-License-Identifier: MIT */
/* config: one value per setting, and the ways to ask for them. struct config is owned by its
 * caller and not changed once it is loaded. config_read.c reads, config_value.c understands,
 * config_table.c knows what there is. */
#include "config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config_table.h"

#define MOST_DIALECTS 8

struct listener_text {
	char address[256];
	const char *dialects[MOST_DIALECTS + 1];
};

static int no_memory(struct err *err)
{
	return err_set(err, ERR_MEMORY, "no memory for the configuration");
}

/* ---- looking up ---- */

static void mistake(const char *section, const char *key, const char *what)
{
	fprintf(stderr, "config: [%s] %s %s\n", section, key, what);
	abort();
}

static size_t find(const char *section, const char *key)
{
	for (size_t i = 0; i < config_table_size; i++)
		if (!strcmp(config_table[i].section, section) && !strcmp(config_table[i].key, key))
			return i;
	mistake(section, key, "is no setting");
	return 0;
}

static const struct config_value *value_of(const struct config *c, const char *section,
					   const char *key, enum config_kind kind)
{
	size_t i = find(section, key);

	if (config_table[i].kind != kind)
		mistake(section, key, "is asked for as another kind");
	return &c->values[i];
}

static int64_t number_of(const struct setting *s, const struct config_value *v)
{
	long cores;

	if (!(s->flags & SETTING_CORES) || v->number)
		return v->number;
	cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (cores < 1)
		cores = 1;
	return s->most && cores > s->most ? s->most : cores;
}

const char *config_str(const struct config *c, const char *section, const char *key)
{
	size_t i = find(section, key);
	enum config_kind kind = config_table[i].kind;

	if (kind != CONFIG_STRING && kind != CONFIG_PATH && kind != CONFIG_CHOICE)
		mistake(section, key, "is asked for as another kind");
	return c->values[i].text;
}

int64_t config_int(const struct config *c, const char *section, const char *key)
{
	return number_of(&config_table[find(section, key)],
			 value_of(c, section, key, CONFIG_INTEGER));
}

bool config_bool(const struct config *c, const char *section, const char *key)
{
	return value_of(c, section, key, CONFIG_BOOLEAN)->number != 0;
}

int64_t config_ms(const struct config *c, const char *section, const char *key)
{
	return value_of(c, section, key, CONFIG_DURATION)->number;
}

int64_t config_bytes(const struct config *c, const char *section, const char *key)
{
	return value_of(c, section, key, CONFIG_SIZE)->number;
}

static const char *const *items_of(const struct config_value *v)
{
	static const char *const none[] = { NULL };

	return v->items ? (const char *const *)v->items : none;
}

const char *const *config_list(const struct config *c, const char *section, const char *key,
			       size_t *n)
{
	const struct config_value *v = value_of(c, section, key, CONFIG_LIST);

	if (n)
		*n = v->count;
	return items_of(v);
}

int64_t config_command_ms(const struct config *c, const char *operation)
{
	const struct config_value *v = value_of(c, "ssh", "command_timeout", CONFIG_LIMITS);

	for (size_t i = 0; i < v->count; i++)
		if (!strcmp(v->items[i], operation))
			return v->numbers[i];
	mistake("ssh", "command_timeout", "has not the operation that is asked for");
	return 0;
}

bool config_given(const struct config *c, const char *section, const char *key)
{
	return c->values[find(section, key)].given;
}

const char *config_path(const struct config *c)
{
	return c->path;
}

const char *const *config_warnings(const struct config *c)
{
	static const char *const none[] = { NULL };

	return c->warnings ? (const char *const *)c->warnings : none;
}

const struct config_listener *config_listeners(const struct config *c, size_t *n)
{
	*n = c->listener_count;
	return c->listeners;
}

void config_each(const struct config *c, void (*fn)(void *arg, const struct config_item *item),
		 void *arg)
{
	for (size_t i = 0; i < config_table_size; i++) {
		const struct setting *s = &config_table[i];
		const struct config_value *v = &c->values[i];
		struct config_item item = {
			.section = s->section,
			.key = s->key,
			.kind = s->kind,
			.text = v->text,
			.number = number_of(s, v),
			.items = items_of(v),
			.numbers = v->numbers,
			.count = v->count,
			.secret = s->flags & SETTING_SECRET,
		};

		fn(arg, &item);
	}
	for (const struct foreign *f = c->foreign; f; f = f->next) {
		struct config_item item = { .section = f->section, .key = f->key, .text = f->text,
					    .kind = CONFIG_STRING, .secret = true };

		fn(arg, &item);
	}
}

/* ---- listeners ---- */

static const struct config_value *setting_value(const struct config *c, const char *section,
						const char *key)
{
	return &c->values[find(section, key)];
}

static void set_default_dialects(const struct config *c, struct listener_text *t)
{
	const struct config_value *v = setting_value(c, "api", "dialects");

	for (size_t i = 0; i < v->count && i < MOST_DIALECTS; i++)
		t->dialects[i] = v->items[i];
}

/* Names of "exed, roller"; all are known. Points at the table's constants. */
static void set_dialects(const struct config *c, struct listener_text *t, const char *names)
{
	const struct setting *s = &config_table[find("api", "dialects")];
	size_t n = 0;

	if (!*names) {
		set_default_dialects(c, t);
		return;
	}
	for (size_t i = 0; s->of[i] && n < MOST_DIALECTS; i++) {
		size_t len = strlen(s->of[i]);

		for (const char *p = names; *p; p += strcspn(p, ","), p += *p == ',') {
			p += strspn(p, " \t");
			if (!strncasecmp(p, s->of[i], len) && strchr(", \t", p[len])) {
				t->dialects[n++] = s->of[i];
				break;
			}
		}
	}
}

/* A mapped address is served as the IPv4 address that it stands for. */
static void unmap(char *address, size_t cap)
{
	struct in6_addr v6;
	char v4[INET_ADDRSTRLEN];

	if (inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_V4MAPPED(&v6) &&
	    inet_ntop(AF_INET, &v6.s6_addr[12], v4, sizeof(v4)))
		snprintf(address, cap, "%s", v4);
}

int config_make_listeners(struct config *c)
{
	const struct config_value *v = setting_value(c, "api", "listen");
	const char *address = setting_value(c, "api", "listen_addr")->text, *rest;
	size_t n = v->count ? v->count : 1;

	free(c->listeners);
	free(c->listener_texts);
	c->listener_count = 0;
	c->listeners = calloc(n, sizeof(*c->listeners));
	c->listener_texts = calloc(n, sizeof(*c->listener_texts));
	if (!c->listeners || !c->listener_texts)
		return -ERR_MEMORY;
	c->listener_count = n;
	for (size_t i = 0; i < n; i++) {
		struct listener_text *t = &c->listener_texts[i];
		struct config_listener *l = &c->listeners[i];

		l->address = t->address;
		l->dialects = t->dialects;
		if (v->count) {
			config_value_address(v->items[i], t->address, sizeof(t->address), &l->port,
					     &rest);
			unmap(t->address, sizeof(t->address));
			set_dialects(c, t, rest);
			continue;
		}
		address += *address == '[';
		snprintf(t->address, sizeof(t->address), "%.*s", (int)strcspn(address, "]"),
			 address);
		unmap(t->address, sizeof(t->address));
		l->port = (int)setting_value(c, "api", "listen_port")->number;
		set_default_dialects(c, t);
	}
	return 0;
}

bool config_is_loopback(const char *address)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, address, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, address, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6) ||
		       (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
	return !strcasecmp(address, "localhost") || !strncmp(address, "unix:", 5);
}

void config_where_listener(const struct config *c, size_t i, char *out, size_t cap)
{
	const struct config_value *v = setting_value(c, "api", "listen");

	if (!v->count)
		config_where(c, "api", "listen_addr", out, cap);
	else if (v->env || !v->lines)
		config_where(c, "api", "listen", out, cap);
	else
		snprintf(out, cap, "%s:%d: [api] listen", c->path, v->lines[i]);
}

int config_check(const struct config *c, struct err *err)
{
	char where[160];

	if (config_bool(c, "api", "open") || config_str(c, "api", "token_file") ||
	    config_str(c, "api", "tls_client_ca") ||
	    !strcmp(config_str(c, "runner", "role"), "worker"))
		return 0;
	for (size_t i = 0; i < c->listener_count; i++) {
		if (config_is_loopback(c->listeners[i].address))
			continue;
		config_where_listener(c, i, where, sizeof(where));
		return err_set(err, ERR_INVALID,
			       "%s: %.50s is not loopback: it needs [api] token_file, or "
			       "tls_client_ca, or open = true to let anybody in", where,
			       c->listeners[i].address);
	}
	return 0;
}

/* ---- loading ---- */

static int load_defaults(struct config *c, struct err *err)
{
	for (size_t i = 0; i < config_table_size; i++) {
		const struct setting *s = &config_table[i];
		int rc = config_value_parse(s, s->otherwise ? s->otherwise : "", false,
					    &c->values[i]);

		if (rc == -ERR_MEMORY)
			return no_memory(err);
		if (rc)
			mistake(s->section, s->key, "has a default that will not do");
	}
	return 0;
}

static int warn_together(struct config *c)
{
	static const char *const addresses[] = { "listen_addr", "listen_port" };
	char where[160];
	int rc = 0;

	if (config_str(c, "runner", "broker_url"))
		rc = config_warn(c, "%s is not needed: jobs go through Redis",
				 config_where(c, "runner", "broker_url", where, sizeof(where)));
	if (!rc && config_bool(c, "api", "open") &&
	    (config_str(c, "api", "token_file") || config_str(c, "api", "tls_client_ca")))
		rc = config_warn(c, "%s lets nobody in whom token_file and tls_client_ca keep out",
				 config_where(c, "api", "open", where, sizeof(where)));
	for (size_t i = 0; i < 2 && !rc; i++)
		if (setting_value(c, "api", "listen")->count && config_given(c, "api", addresses[i]))
			rc = config_warn(c, "%s does not count beside listen",
					 config_where(c, "api", addresses[i], where, sizeof(where)));
	return rc;
}

static int check_together(struct config *c, struct err *err)
{
	if (config_make_listeners(c))
		return no_memory(err);
	config_check_forms(c);
	return warn_together(c) ? no_memory(err) : 0;
}

struct config *config_read(const char *path, config_report_fn *report, void *arg, struct err *err)
{
	struct config *c = calloc(1, sizeof(*c));

	if (c)
		c->values = calloc(config_table_size, sizeof(*c->values));
	if (!c || !c->values) {
		no_memory(err);
		goto fail_reading;
	}
	c->report = report;
	c->report_arg = arg;
	c->foreign_last = &c->foreign;
	if (load_defaults(c, err) || config_read_file(c, path, err) ||
	    config_read_environment(c, err) || check_together(c, err))
		goto fail_reading;
	if (!c->problems)
		return c;
	err_set(err, c->first.code, "%s", c->first.message);
	goto fail;
fail_reading:
	if (report)
		report(arg, err->message);
fail:
	config_free(c);
	return NULL;
}

struct config *config_load(const char *path, struct err *err)
{
	struct err unwanted;

	return config_read(path, NULL, NULL, err ? err : &unwanted);
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; c->values && i < config_table_size; i++)
		config_value_deinit(&c->values[i]);
	for (struct foreign *f = c->foreign, *next; f; f = next) {
		next = f->next;
		free(f->section);
		free(f->key);
		free(f->text);
		free(f);
	}
	for (size_t i = 0; i < c->warning_count; i++)
		free(c->warnings[i]);
	free(c->warnings);
	free(c->values);
	free(c->listeners);
	free(c->listener_texts);
	free(c->path);
	free(c);
}
