/* SPDX-License-Identifier: MIT */
/* config_forms: what is wrong with settings that their kind does not show: texts that must have a
 * form, and settings that need one another. Looked at once for the file and the environment. No state. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "config_table.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."

/* Tells that a text will not do. Its bytes may be of any kind, so it is not shown. */
static void unfit(struct config *c, const char *section, const char *key, const char *want)
{
	char where[160];

	config_problem(c, "%s will not do; want %s",
		       config_where(c, section, key, where, sizeof(where)), want);
}

/* The store's address may hold a password, so it is not repeated. */
static void check_store(struct config *c)
{
	static const char *const stores[] = { "redis://", "rediss://", "unix:///" };
	const char *url = config_str(c, "runner", "redis_url");
	bool known = !strcmp(url, "embedded");
	char where[160];

	for (size_t i = 0; i < sizeof(stores) / sizeof(*stores); i++)
		known = known || !strncmp(url, stores[i], strlen(stores[i]));
	if (!known)
		config_problem(c, "%s: want embedded, redis://host:port/db, unix:///path or "
				  "rediss://host:port/db",
			       config_where(c, "runner", "redis_url", where, sizeof(where)));
}

static void check_address(struct config *c)
{
	const char *address = config_str(c, "api", "listen_addr");
	char where[160], bare[64];
	struct in6_addr ip;

	snprintf(bare, sizeof(bare), "%s", address + (*address == '['));
	bare[strcspn(bare, "]")] = '\0';
	if (inet_pton(AF_INET6, bare, &ip) != 1 && strpbrk(address, ":/[] \t"))
		config_problem(c, "%s: \"%.40s\" will not do; want an address without a port, such "
				  "as 127.0.0.1 or ::1",
			       config_where(c, "api", "listen_addr", where, sizeof(where)),
			       address);
}

static void check_tls(struct config *c)
{
	const char *cert = config_str(c, "api", "tls_cert"), *key = config_str(c, "api", "tls_key");
	char where[160];

	if (!cert != !key)
		config_problem(c, "%s needs [api] %s beside it",
			       config_where(c, "api", cert ? "tls_cert" : "tls_key", where,
					    sizeof(where)), cert ? "tls_key" : "tls_cert");
	else if (!cert && config_str(c, "api", "tls_client_ca"))
		config_problem(c, "%s needs [api] tls_cert and tls_key",
			       config_where(c, "api", "tls_client_ca", where, sizeof(where)));
}

/* It goes into the head of every answer. */
static void check_server_header(struct config *c)
{
	const char *text = config_str(c, "api", "server_header");

	for (; text && *text; text++) {
		if (*text >= ' ' && *text <= '~')
			continue;
		unfit(c, "api", "server_header", "letters, digits and signs of ASCII");
		return;
	}
}

static void check_allowed_hosts(struct config *c)
{
	const char *const *names = config_list(c, "api", "allowed_hosts", NULL);

	for (; names && *names; names++) {
		if ((*names)[strspn(*names, LETTERS "-:[]")] == '\0')
			continue;
		unfit(c, "api", "allowed_hosts",
		      "names and addresses alone, as in `exed.example.net, 10.0.0.5, [::1]`");
		return;
	}
}

/* As the inventory's. */
static void check_user(struct config *c)
{
	const char *user = config_str(c, "ssh", "user");

	if (!user)
		return;
	if (!*user || strlen(user) > 128 || !strchr(LETTERS, *user) ||
	    user[strspn(user, LETTERS "@+$\\-")])
		unfit(c, "ssh", "user", "letters, digits and _ . @ + $ \\ -, and no - at its start");
}

static void check_fence_dir(struct config *c)
{
	const char *dir = config_str(c, "ssh", "fence_dir");

	if (dir && *dir != '/' && strncmp(dir, "~/", 2) != 0 && strncmp(dir, "$HOME/", 6) != 0)
		unfit(c, "ssh", "fence_dir", "an absolute path, ~/... or $HOME/... on the hosts");
}

static void check_listeners(struct config *c)
{
	const struct config_listener *all;
	char where[160];
	size_t n;

	all = config_listeners(c, &n);
	for (size_t i = 1; i < n; i++) {
		for (size_t k = 0; k < i; k++) {
			if (strcmp(all[i].address, all[k].address) != 0 ||
			    all[i].port != all[k].port ||
			    (!all[i].port && strncmp(all[i].address, "unix:", 5) != 0))
				continue;
			config_where_listener(c, i, where, sizeof(where));
			config_problem(c, "%s: it is there already; give one line all its dialects",
				       where);
			return;
		}
	}
}

void config_check_forms(struct config *c)
{
	check_store(c);
	check_address(c);
	check_tls(c);
	check_server_header(c);
	check_allowed_hosts(c);
	check_user(c);
	check_fence_dir(c);
	check_listeners(c);
}
