/* SPDX-License-Identifier: MIT */
/* ssh_auth: the login of a connection: which keys are tried, in which order, and how they sign.
 *
 * First the host's own key or the configured keys, each with its certificate before it, then the
 * agent's, then the password (ssh_password.c) where the host has one. The right key is offered at
 * once; there is no `none` request. libssh2 calls `sign` when the host wants a key's signature;
 * for a key of the agent it says EAGAIN until the agent has answered. One I/O thread. */
#include <stdlib.h>
#include <string.h>

#include "ssh_auth.h"
#include "ssh_cert.h"

/* An agent's flags for RSA (draft-miller-ssh-agent, 4.5.1). */
#define AGENT_RSA_SHA2_256 2u
#define AGENT_RSA_SHA2_512 4u

/* ---- the agent's answers ---- */

static void offered_free(struct ssh_auth *a)
{
	for (size_t i = 0; i < a->n_agent_keys; i++) {
		free(a->agent_keys[i].blob);
		free(a->agent_keys[i].comment);
	}
	free(a->agent_keys);
}

static void on_keys(void *arg, const struct ssh_agent_key *keys, size_t n, const struct err *err)
{
	struct ssh_conn *c = arg;
	struct ssh_auth *a = c->auth;

	a->ask = NULL;
	a->listed = true;
	a->agent_err = *err;
	if (n)
		a->agent_keys = calloc(n, sizeof(*a->agent_keys));
	for (size_t i = 0; a->agent_keys && i < n; i++) {
		struct offered *o = &a->agent_keys[i];

		o->blob = malloc(keys[i].len + 1);
		o->comment = strdup(keys[i].comment);
		a->n_agent_keys++;
		if (!o->blob || !o->comment) {
			conn_fail(c, ERR_MEMORY, "out of memory");
			return;
		}
		memcpy(o->blob, keys[i].blob, keys[i].len);
		o->len = keys[i].len;
	}
	conn_kick(c);
}

static void on_signed(void *arg, const unsigned char *sig, size_t n, const struct err *err)
{
	struct ssh_conn *c = arg;
	struct ssh_auth *a = c->auth;

	(void)err;
	a->ask = NULL;
	a->sign_done = true;
	a->sign_failed = !sig;
	buf_clear(&a->sig);
	if (sig)
		buf_add(&a->sig, sig, n);
	conn_kick(c);
}

/* ---- which key ---- */

struct candidate {
	struct ssh_key *key;           /* one that we hold, or: */
	const struct offered *offered; /* one of the agent */
	const unsigned char *blob;     /* what the host is offered: public key or certificate */
	size_t len;
	bool cert;
};

static bool same_blob(const struct ssh_key *k, const struct offered *o)
{
	size_t len, cert_len;
	const unsigned char *blob = ssh_key_blob(k, &len), *cert = ssh_key_cert(k, &cert_len);

	return (len == o->len && !memcmp(blob, o->blob, len)) ||
	       (cert && cert_len == o->len && !memcmp(cert, o->blob, cert_len));
}

/* Whether a key of the agent is one that we hold, and so was tried already. */
static bool is_held(const struct ssh_conn *c, const struct offered *o)
{
	struct ssh_key **keys = c->settings->keys;

	if (c->auth->own && same_blob(c->auth->own, o))
		return true;
	for (size_t i = 0; keys[i]; i++)
		if (same_blob(keys[i], o))
			return true;
	return false;
}

/* What a key of ours offers: first its certificate, then itself. False when there is none. */
static bool candidate_of_key(struct candidate *found, struct ssh_key *k, bool cert)
{
	if (!k)
		return false;
	found->key = k;
	found->cert = cert;
	found->blob = cert ? ssh_key_cert(k, &found->len) : ssh_key_blob(k, &found->len);
	return found->blob != NULL;
}

static bool candidate_of_agent(struct ssh_conn *c, struct candidate *found,
			       const struct offered *o)
{
	if (is_held(c, o))
		return false;
	found->offered = o;
	found->blob = o->blob;
	found->len = o->len;
	found->cert = ssh_cert_is(o->blob, o->len);
	return true;
}

/* What is offered at a->next, or behind it: two for each key of ours, then the agent's. False when
 * there is none any more. */
static bool candidate_get(struct ssh_conn *c, struct candidate *found)
{
	struct ssh_auth *a = c->auth;
	struct ssh_key **keys = c->settings->keys;
	size_t n = 0;

	while (keys[n])
		n++;
	for (;; a->next++) {
		size_t i = a->next / 2;
		struct ssh_key *k = i == 0 ? a->own : i <= n ? keys[i - 1] : NULL;

		memset(found, 0, sizeof(*found));
		if (i <= n) {
			if ((i == 0 || k != a->own) &&
			    candidate_of_key(found, k, a->next % 2 == 0))
				return true;
			continue;
		}
		i = a->next - 2 * (n + 1);
		if (i >= a->n_agent_keys)
			return false;
		if (candidate_of_agent(c, found, &a->agent_keys[i]))
			return true;
	}
}

/* ---- signing ---- */

struct signing { /* the abstract that libssh2 hands back to `sign` */
	struct ssh_conn *c;
	struct candidate candidate;
};

/* The n-th string of the request that is signed (RFC 4252, 7): session id, then after one byte
 * user, service, "publickey", after one more byte the algorithm. */
static const char *algorithm_of(const unsigned char *data, size_t len, size_t *n)
{
	size_t at = 0;

	for (int i = 0; i < 5; i++) {
		size_t size;

		at += i == 1 || i == 4;
		if (len < 4 || at > len - 4)
			return NULL;
		size = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 |
		       (size_t)data[at + 2] << 8 | data[at + 3];
		at += 4;
		if (size > len - at)
			return NULL;
		if (i == 4) {
			*n = size;
			return (const char *)data + at;
		}
		at += size;
	}
	return NULL;
}

/* The length of an algorithm's name without what a certificate's has behind it: a certificate is
 * signed with as the key that it is for. */
static size_t plain_algorithm(const char *algorithm, size_t n)
{
	const size_t tail = sizeof(SSH_CERT_SUFFIX) - 1;

	if (n > tail && !memcmp(algorithm + n - tail, SSH_CERT_SUFFIX, tail))
		return n - tail;
	return n;
}

/* What the agent gives is a type and a signature; libssh2 puts the type there itself. */
static int agent_signature(struct ssh_conn *c, unsigned char **sig, size_t *sig_len)
{
	struct ssh_auth *a = c->auth;
	const unsigned char *s = (const unsigned char *)a->sig.data;
	size_t left = a->sig.len, n;

	for (int i = 0; i < 2; i++) {
		if (left < 4)
			return -1;
		n = (size_t)s[0] << 24 | (size_t)s[1] << 16 | (size_t)s[2] << 8 | s[3];
		if (n > left - 4)
			return -1;
		s += 4;
		left -= 4;
		if (i == 0) {
			s += n;
			left -= n;
			continue;
		}
		*sig = conn_io_alloc(c, n);
		if (!*sig)
			return -1;
		memcpy(*sig, s, n);
		*sig_len = n;
	}
	return 0;
}

static int sign_by_agent(struct ssh_conn *c, const struct offered *o, const unsigned char *data,
			 size_t len, const char *algorithm, size_t n, unsigned char **sig,
			 size_t *sig_len)
{
	struct ssh_auth *a = c->auth;
	unsigned flags = 0;

	if (a->sign_done) {
		a->sign_done = false;
		return a->sign_failed || a->sig.failed ? -1 : agent_signature(c, sig, sig_len);
	}
	c->starved = true; /* nothing more can be done before the answer is here */
	if (a->ask)
		return LIBSSH2_ERROR_EAGAIN;
	if (n == 12 && !memcmp(algorithm, "rsa-sha2-512", 12))
		flags = AGENT_RSA_SHA2_512;
	else if (n == 12 && !memcmp(algorithm, "rsa-sha2-256", 12))
		flags = AGENT_RSA_SHA2_256;
	else if (n == 7 && !memcmp(algorithm, "ssh-rsa", 7))
		return -1; /* SHA-1 */
	a->ask = ssh_agent_sign(c->client->agent, o->blob, o->len, data, len, flags, on_signed, c);
	return a->ask ? LIBSSH2_ERROR_EAGAIN : -1;
}

static LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC(sign)
{
	struct signing *s = *abstract;
	struct buf out = {0};
	const char *algorithm;
	size_t n;
	int rc;

	(void)session;
	algorithm = algorithm_of(data, data_len, &n);
	if (!algorithm)
		return -1;
	n = plain_algorithm(algorithm, n);
	if (s->candidate.offered)
		return sign_by_agent(s->c, s->candidate.offered, data, data_len, algorithm, n, sig,
				     sig_len);
	rc = ssh_key_sign(s->candidate.key, algorithm, n, data, data_len, &out);
	*sig = rc ? NULL : conn_io_alloc(s->c, out.len);
	if (*sig) {
		memcpy(*sig, out.data, out.len);
		*sig_len = out.len;
	}
	buf_deinit(&out);
	return *sig ? 0 : -1;
}

/* ---- the login ---- */

static int auth_start(struct ssh_conn *c)
{
	struct ssh_auth *a = calloc(1, sizeof(*a));

	if (!a) {
		conn_fail(c, ERR_MEMORY, "out of memory");
		return -1;
	}
	c->auth = a;
	if (c->host->key)
		a->own = ssh_settings_key(c->settings, c->host->key, &a->own_err);
	return 0;
}

/* The agent's keys, once our own were of no use. 0 when they are here, or there is no agent. */
static int agent_ask(struct ssh_conn *c)
{
	struct ssh_auth *a = c->auth;
	struct ssh_agent *agent;

	if (a->listed || !c->settings->agent)
		return 0;
	if (a->ask)
		return LIBSSH2_ERROR_EAGAIN;
	agent = client_agent(c->client, c->settings->agent);
	a->ask = agent ? ssh_agent_list(agent, on_keys, c) : NULL;
	if (a->ask)
		return LIBSSH2_ERROR_EAGAIN;
	conn_fail(c, ERR_MEMORY, "out of memory");
	return -1;
}

void auth_note_tried(struct ssh_auth *a, const char *what)
{
	if (a->tried.len)
		buf_puts(&a->tried, ", ");
	buf_puts(&a->tried, what);
	a->n_tried++;
}

static void note_tried(struct ssh_auth *a, const struct candidate *k)
{
	const char *lapse = k->cert ? ssh_cert_lapse(k->blob, k->len, time(NULL)) : NULL;
	struct buf what = {0};

	if (k->key)
		buf_printf(&what, "%s%s", ssh_key_name(k->key), k->cert ? "-cert.pub" : "");
	else
		buf_printf(&what, "agent:%s%s", k->offered->comment, k->cert ? " (cert)" : "");
	if (lapse)
		buf_printf(&what, " (%s)", lapse);
	if (k->key && !k->cert && ssh_key_cert_problem(k->key))
		buf_printf(&what, " (%s)", ssh_key_cert_problem(k->key));
	if (buf_str(&what))
		auth_note_tried(a, what.data);
	buf_deinit(&what);
}

void conn_auth_tried(const struct ssh_conn *c, char *out, size_t cap)
{
	const struct ssh_auth *a = c->auth;
	const char *asked = a && a->ask ? "; the agent has not answered" : "";

	if (!a || !a->tried.len)
		snprintf(out, cap, "no key tried%s", asked);
	else
		snprintf(out, cap, "tried %.*s%s", (int)a->tried.len, a->tried.data, asked);
}

const char *auth_user(const struct ssh_conn *c)
{
	return c->host->user ? c->host->user : c->settings->user;
}

int auth_refused(struct ssh_conn *c)
{
	struct ssh_auth *a = c->auth;
	char tried[300], more[300] = "";

	conn_auth_tried(c, tried, sizeof(tried));
	if (a->own_err.code)
		snprintf(more, sizeof(more), "; %s", a->own_err.message);
	else if (a->agent_err.code)
		snprintf(more, sizeof(more), "; %s", a->agent_err.message);
	else if (!a->tried.len && !c->settings->agent)
		snprintf(more, sizeof(more), "; there is no key and no agent");
	else if (!a->tried.len)
		snprintf(more, sizeof(more), "; there is no key, and the agent has none");
	conn_fail(c, ERR_REFUSED, "login refused for user %s: %s%s%s", auth_user(c), tried, more,
		  auth_methods_say(a));
	return -1;
}

static int key_try(struct ssh_conn *c, const struct candidate *k)
{
	struct signing signing = {c, *k};
	void *abstract = &signing;
	int rc;

	CONN_CALL(c, rc, libssh2_userauth_publickey(c->session, auth_user(c), k->blob, k->len, sign,
						    &abstract));
	return rc;
}

/* The next key: of ours, or of the agent once ours were of no use. 0: there is one, 1: there is
 * none, else negative and it is waited for. */
static int key_next(struct ssh_conn *c, struct candidate *k)
{
	struct ssh_auth *a = c->auth;
	int rc;

	/* sshd hangs up after some failures: a password must have its turn before. */
	if (!a->trying && c->host->password && a->n_tried >= KEYS_BEFORE_PASSWORD)
		return 1;
	if (!a->trying && a->heard && !(a->methods & AUTH_PUBLICKEY))
		return 1;
	if (candidate_get(c, k))
		return 0;
	rc = agent_ask(c);
	if (rc)
		return rc;
	return candidate_get(c, k) ? 0 : 1;
}

int conn_auth_step(struct ssh_conn *c)
{
	struct ssh_auth *a;
	struct candidate k;
	int rc;

	if (!c->auth && auth_start(c))
		return -1;
	a = c->auth;
	for (;;) {
		rc = key_next(c, &k);
		if (rc < 0)
			return rc;
		if (rc > 0)
			return c->host->password ? auth_password_step(c) : auth_refused(c);
		if (!a->trying) {
			note_tried(a, &k);
			a->trying = true;
		}
		rc = key_try(c, &k);
		if (rc == 0 || rc == LIBSSH2_ERROR_EAGAIN)
			return rc;
		if (rc != LIBSSH2_ERROR_AUTHENTICATION_FAILED &&
		    rc != LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED) {
			conn_fail_ssh(c, rc);
			return rc;
		}
		a->trying = false;
		a->sign_done = false;
		a->next++;
	}
}

void conn_auth_free(struct ssh_conn *c)
{
	struct ssh_auth *a = c->auth;

	if (!a)
		return;
	if (a->ask)
		ssh_agent_drop(a->ask);
	offered_free(a);
	buf_deinit(&a->sig);
	buf_deinit(&a->tried);
	free(a);
	c->auth = NULL;
}
