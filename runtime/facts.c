/* SPDX-License-Identifier: MIT */
/* facts: lines of a host in, JSON out. The tables below are all that can come through. Pure; any thread. */
#include "facts.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FIRST "exed-facts 1"
#define LAST "end"
/* Digits of a number that is surely no overflow, also as KiB. */
#define DIGITS_MAX 15
/* Items of a list; the script stops at fewer. */
#define ITEMS_MAX 1000

enum type {
	TEXT,
	PATH,    /* text in which the kernel wrote blanks and backslashes as \ooo */
	INTEGER,
	KIB,     /* becomes bytes */
	BOOLEAN,
	ADDRESS, /* IPv4 or IPv6; becomes the canonical form */
	NAMES,   /* a line for each; becomes a list */
	ON_INTERFACE, /* INTERFACE FAMILY ADDRESS/PREFIX SCOPE: belongs to the interface's ipv4 or ipv6 */
	OBJECT,
	LIST,
};

struct fact {
	const char *name;
	enum type type;
	const struct fact *facts; /* of an OBJECT, and of each item of a LIST; ends with a NULL name */
};

static const struct fact os_facts[] = {
	{ "id", TEXT, NULL }, { "name", TEXT, NULL }, { "family", TEXT, NULL },
	{ "version", TEXT, NULL }, { "major", TEXT, NULL }, { "codename", TEXT, NULL },
	{ "description", TEXT, NULL }, { NULL, 0, NULL },
};

static const struct fact processor_facts[] = {
	{ "count", INTEGER, NULL }, { "physicalcount", INTEGER, NULL }, { "cores", INTEGER, NULL },
	{ "model", TEXT, NULL }, { NULL, 0, NULL },
};

static const struct fact mount_facts[] = {
	{ "device", PATH, NULL }, { "mount", PATH, NULL }, { "fstype", TEXT, NULL },
	{ "options", PATH, NULL }, { "size", KIB, NULL }, { "available", KIB, NULL },
	{ NULL, 0, NULL },
};

static const struct fact interface_facts[] = {
	{ "name", TEXT, NULL }, { "mac", TEXT, NULL }, { "mtu", INTEGER, NULL },
	{ "state", TEXT, NULL }, { NULL, 0, NULL },
};

static const struct fact default_facts[] = {
	{ "interface", TEXT, NULL }, { "gateway", ADDRESS, NULL }, { NULL, 0, NULL },
};

static const struct fact host_facts[] = {
	{ "hostname", TEXT, NULL },
	{ "fqdn", TEXT, NULL },
	{ "domain", TEXT, NULL },
	{ "kernel", TEXT, NULL },
	{ "kernel_release", TEXT, NULL },
	{ "kernel_version", TEXT, NULL },
	{ "architecture", TEXT, NULL },
	{ "machine", TEXT, NULL },
	{ "os", OBJECT, os_facts },
	{ "processors", OBJECT, processor_facts },
	{ "memory", KIB, NULL },
	{ "memory_available", KIB, NULL },
	{ "swap", KIB, NULL },
	{ "swap_free", KIB, NULL },
	{ "mounts", LIST, mount_facts },
	{ "interfaces", LIST, interface_facts },
	{ "address", ON_INTERFACE, NULL },
	{ "default_ipv4", OBJECT, default_facts },
	{ "default_ipv6", OBJECT, default_facts },
	{ "uptime", INTEGER, NULL },
	{ "boot_time", INTEGER, NULL },
	{ "boot_id", TEXT, NULL },
	{ "machine_id", TEXT, NULL },
	{ "virtual", TEXT, NULL },
	{ "is_virtual", BOOLEAN, NULL },
	{ "system_vendor", TEXT, NULL },
	{ "product_name", TEXT, NULL },
	{ "service_mgr", TEXT, NULL },
	{ "pkg_mgr", TEXT, NULL },
	{ "truncated", NAMES, NULL },
	{ NULL, 0, NULL },
};

struct text { const char *s; size_t n; };

static bool is_text(struct text t, const char *s)
{
	return t.n == strlen(s) && !memcmp(t.s, s, t.n);
}

/* Cuts off and returns what is before the first c, or all there is. */
static struct text cut(struct text *t, char c)
{
	const char *at = t->n ? memchr(t->s, c, t->n) : NULL;
	struct text head = { t->s, at ? (size_t)(at - t->s) : t->n };
	size_t skip = head.n + (at ? 1 : 0);

	t->s += skip;
	t->n -= skip;
	return head;
}

/* ---- values ---- */

static json_t *to_text(struct text t)
{
	json_t *value = json_stringn(t.s, t.n);
	struct buf b = { 0 };

	if (value)
		return value;
	/* Not UTF-8 (or no memory, and then there is none below either). */
	buf_json_string(&b, t.s, t.n);
	if (!b.failed)
		value = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	buf_deinit(&b);
	return value;
}

static bool is_octal(const char *s)
{
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7';
}

static json_t *to_path(struct text t)
{
	json_t *value;
	struct buf b = { 0 };

	if (!memchr(t.s, '\\', t.n))
		return to_text(t);
	for (size_t i = 0; i < t.n; i++) {
		if (t.s[i] == '\\' && t.n - i > 3 && is_octal(t.s + i + 1)) {
			buf_putc(&b, (char)((t.s[i + 1] - '0') << 6 | (t.s[i + 2] - '0') << 3 |
					    (t.s[i + 3] - '0')));
			i += 3;
		} else {
			buf_putc(&b, t.s[i]);
		}
	}
	value = b.failed ? NULL : to_text((struct text){ b.data, b.len });
	buf_deinit(&b);
	return value;
}

static bool read_number(struct text t, int64_t *number)
{
	*number = 0;
	if (!t.n || t.n > DIGITS_MAX)
		return false;
	for (size_t i = 0; i < t.n; i++) {
		if (t.s[i] < '0' || t.s[i] > '9')
			return false;
		*number = *number * 10 + (t.s[i] - '0');
	}
	return true;
}

/* The address in its canonical form; false: it is none. family: AF_INET, AF_INET6, or 0 for either. */
static bool read_address(struct text t, int family, char out[INET6_ADDRSTRLEN])
{
	int given = t.n && memchr(t.s, ':', t.n) ? AF_INET6 : AF_INET;
	char in[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (t.n >= sizeof(in) || (family && family != given))
		return false;
	memcpy(in, t.s, t.n);
	in[t.n] = '\0';
	return inet_pton(given, in, &address) == 1 &&
	       inet_ntop(given, &address, out, INET6_ADDRSTRLEN);
}

static json_t *to_value(enum type type, struct text t)
{
	char address[INET6_ADDRSTRLEN];
	int64_t number;

	switch (type) {
	case TEXT:
	case NAMES: return to_text(t);
	case PATH: return to_path(t);
	case INTEGER: return read_number(t, &number) ? json_integer(number) : NULL;
	case KIB: return read_number(t, &number) ? json_integer(number * 1024) : NULL;
	case ADDRESS: return read_address(t, 0, address) ? json_string(address) : NULL;
	case BOOLEAN:
		if (!is_text(t, "true") && !is_text(t, "false"))
			return NULL;
		return json_boolean(t.n == strlen("true"));
	default: return NULL;
	}
}

/* ---- addresses of interfaces ---- */

static json_t *find_interface(json_t *host, struct text name)
{
	json_t *list = json_object_get(host, "interfaces");
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item) {
		const char *own = json_string_value(json_object_get(item, "name"));

		if (own && is_text(name, own))
			return item;
	}
	return NULL;
}

/* INTERFACE FAMILY ADDRESS/PREFIX SCOPE. Of an interface that was cut off nothing is told. */
static bool add_address(json_t *host, struct text t)
{
	struct text name = cut(&t, ' '), family = cut(&t, ' '), prefix = cut(&t, ' ');
	struct text address = cut(&prefix, '/');
	bool v6 = is_text(family, "inet6");
	char plain[INET6_ADDRSTRLEN];
	json_t *interface, *item;
	int64_t bits;

	if ((!v6 && !is_text(family, "inet")) || !read_number(prefix, &bits) ||
	    bits > (v6 ? 128 : 32) || !read_address(address, v6 ? AF_INET6 : AF_INET, plain))
		return false;
	if (!is_text(t, "global") && !is_text(t, "link") && !is_text(t, "host"))
		return false;
	interface = find_interface(host, name);
	if (!interface)
		return true;
	item = json_pack("{s:s, s:I, s:s%}", "address", plain, "prefix", (json_int_t)bits, "scope",
			 t.s, t.n);
	return !json_array_append_new(json_object_get(interface, v6 ? "ipv6" : "ipv4"), item);
}

/* A default route's address is the first that its interface has, of those that others can reach. */
static void set_default_address(json_t *host, const char *route, const char *family)
{
	json_t *found = json_object_get(host, route), *interface, *item, *best = NULL;
	const char *name = json_string_value(json_object_get(found, "interface"));
	size_t i;

	if (!name)
		return;
	interface = find_interface(host, (struct text){ name, strlen(name) });
	json_array_foreach(json_object_get(interface, family), i, item) {
		const char *scope = json_string_value(json_object_get(item, "scope"));

		if (!best && scope && !strcmp(scope, "global"))
			best = json_object_get(item, "address");
	}
	if (best)
		json_object_set(found, "address", best);
}

/* ---- lines ---- */

static const struct fact *find_fact(const struct fact *facts, struct text name)
{
	for (; facts->name; facts++)
		if (is_text(name, facts->name))
			return facts;
	return NULL;
}

/* The next item of a list, with the lists that it always has. */
static bool add_item(json_t *at, const struct fact *fact)
{
	json_t *list = json_object_get(at, fact->name), *item;

	if (json_array_size(list) >= ITEMS_MAX)
		return false;
	item = fact->facts == interface_facts ? json_pack("{s:[], s:[]}", "ipv4", "ipv6")
					      : json_object();
	return !json_array_append_new(list, item);
}

/* The object that is `fact` in *at, or the last item when it is a list; NULL: there is none. */
static json_t *enter(json_t *at, const struct fact *fact)
{
	json_t *found = json_object_get(at, fact->name);

	if (fact->type == LIST)
		return json_array_get(found, json_array_size(found) - 1);
	if (!found && !json_object_set_new(at, fact->name, json_object()))
		found = json_object_get(at, fact->name);
	return found;
}

static bool set_fact(json_t *host, json_t *at, const struct fact *fact, struct text t)
{
	json_t *value, *list;

	if (fact->type == ON_INTERFACE)
		return add_address(host, t);
	value = to_value(fact->type, t);
	if (!value || fact->type != NAMES)
		return value && !json_object_set_new(at, fact->name, value);
	list = json_object_get(at, fact->name);
	if (!list && !json_object_set_new(at, fact->name, json_array()))
		list = json_object_get(at, fact->name);
	if (list)
		return !json_array_append_new(list, value);
	json_decref(value);
	return false;
}

/* One line: NAME=VALUE or NAME[], NAME with a dot for what is inside of another. */
static bool read_line(json_t *host, struct text line)
{
	const struct fact *facts = host_facts, *fact = NULL;
	size_t n = line.n;
	struct text path = cut(&line, '=');
	bool item = path.n == n && n > 2 && !memcmp(path.s + n - 2, "[]", 2);
	json_t *at = host;

	if (item)
		path.n -= 2;
	else if (path.n == n)
		return false;
	while (at && path.n) {
		fact = find_fact(facts, cut(&path, '.'));
		if (!fact)
			return false;
		if (!path.n)
			break;
		facts = fact->facts;
		at = facts ? enter(at, fact) : NULL;
	}
	if (!at || !fact || (fact->type == LIST) != item || fact->type == OBJECT)
		return false;
	return item ? add_item(at, fact) : set_fact(host, at, fact, line);
}

static int complain(struct err *err, unsigned number, struct text line)
{
	int n = line.n > 60 ? 60 : (int)line.n;

	return err_set(err, ERR_INVALID, "line %u of its facts is not one that is known: %.*s%s", number,
		       n, line.s, line.n > 60 ? "..." : "");
}

static int read_lines(json_t *host, struct text text, struct err *err)
{
	bool begun = false;

	for (unsigned number = 0; text.n;) {
		struct text line = cut(&text, '\n');

		if (begun && is_text(line, LAST))
			return 0;
		if (!begun) {
			begun = is_text(line, FIRST);
			continue;
		}
		number++;
		if (!read_line(host, line))
			return complain(err, number, line);
	}
	return err_set(err, ERR_INVALID, begun ? "its facts have no end" : "it printed no facts");
}

static int add_json(const char *data, size_t n, void *arg)
{
	buf_add(arg, data, n);
	return 0;
}

int facts_parse(const char *text, size_t n, struct buf *json, struct err *err)
{
	json_t *host = json_pack("{s:[], s:[]}", "mounts", "interfaces");
	size_t before = json->len;
	int result;

	if (!host)
		return err_set(err, ERR_MEMORY, "no memory for the facts");
	result = read_lines(host, (struct text){ text, n }, err);
	if (!result) {
		set_default_address(host, "default_ipv4", "ipv4");
		set_default_address(host, "default_ipv6", "ipv6");
		json_dump_callback(host, add_json, json, JSON_COMPACT);
	}
	/* Escaped control bytes are longer than they were. */
	if (!result && json->len - before > 2 * FACTS_MAX) {
		json->len = before;
		result = err_set(err, ERR_INVALID, "its facts are longer than %d bytes", 2 * FACTS_MAX);
	}
	json_decref(host);
	return result;
}
