/* SPDX-License-Identifier: MIT */
/* ssh_password: the login by password, for hosts that the inventory gives one: as the method
 * "password", or where the host has only "keyboard-interactive", as the answer to its one hidden
 * prompt. It is sent once: a second try of the same could lock the account. One I/O thread. */
#include <stdlib.h>
#include <string.h>

#include "ssh_auth.h"

#define METHODS_MAX 1024u /* bytes of a list of methods that are believed */

/* ---- what the host takes ---- */

static unsigned methods_read(const char *list, size_t n)
{
	static const struct {
		const char *name;
		unsigned method;
	} known[] = {{"publickey", AUTH_PUBLICKEY},
		     {"password", AUTH_PASSWORD},
		     {"keyboard-interactive", AUTH_INTERACTIVE}};
	unsigned found = 0;

	while (n) {
		const char *comma = memchr(list, ',', n);
		size_t len = comma ? (size_t)(comma - list) : n;

		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
			if (len == strlen(known[i].name) && !memcmp(list, known[i].name, len))
				found |= known[i].method;
		list += comma ? len + 1 : len;
		n -= comma ? len + 1 : len;
	}
	return found;
}

/* The block may be larger than the packet, and may be no packet at all: its form is checked. */
void conn_auth_packet(struct ssh_conn *c, const unsigned char *packet, size_t n)
{
	size_t len;

	if (!c->auth || n < 6)
		return;
	len = (size_t)packet[1] << 24 | (size_t)packet[2] << 16 | (size_t)packet[3] << 8 | packet[4];
	if (len > METHODS_MAX || len + 6 > n || packet[5 + len] > 1)
		return;
	for (size_t i = 0; i < len; i++)
		if (packet[5 + i] < '!' || packet[5 + i] > '~')
			return;
	c->auth->heard = true;
	c->auth->methods = methods_read((const char *)packet + 5, len);
}

const char *auth_methods_say(const struct ssh_auth *a)
{
	static const char *const says[] = {
		"; the host takes none of publickey, password, keyboard-interactive",
		"",
		"; the host takes password only",
		"",
		"; the host takes keyboard-interactive only",
		"",
		"; the host takes password and keyboard-interactive only",
		"",
	};

	return a->heard ? says[a->methods & 7] : "";
}

/* Without a key nobody has asked the host yet. 0: it is known what it takes; 1: logged in. */
static int methods_ask(struct ssh_conn *c)
{
	const char *user = auth_user(c), *list = NULL;
	int rc;

	if (c->auth->heard)
		return 0;
	CONN_CALL(c, rc, (list = libssh2_userauth_list(c->session, user, (unsigned)strlen(user)))
				 ? 0 : libssh2_session_last_errno(c->session));
	if (!list && libssh2_userauth_authenticated(c->session))
		return 1;
	if (!list) {
		if (rc != LIBSSH2_ERROR_EAGAIN)
			conn_fail_ssh(c, rc);
		return rc ? rc : -1;
	}
	c->auth->heard = true;
	c->auth->methods = methods_read(list, strlen(list));
	return 0;
}

/* ---- the password ---- */

/* A prompt that hides what is typed, alone in its round, asks for the password; once. Anything
 * else is not for us and gets an empty answer, with which the host ends it. */
static LIBSSH2_USERAUTH_KBDINT_RESPONSE_FUNC(answer)
{
	struct ssh_conn *c = *abstract;
	struct ssh_auth *a = c->auth;
	bool asked = num_prompts == 1 && !prompts[0].echo && !a->answered;
	size_t n = asked ? strlen(c->host->password) : 0;

	(void)name;
	(void)name_len;
	(void)instruction;
	(void)instruction_len;
	if (num_prompts > 0 && !asked)
		a->odd_prompts = (unsigned)num_prompts;
	for (int i = 0; i < num_prompts; i++) {
		responses[i].text = conn_io_alloc(c, n + 1);
		responses[i].length = 0;
	}
	if (!asked || !responses[0].text)
		return;
	memcpy(responses[0].text, c->host->password, n);
	responses[0].length = (unsigned)n;
	a->answered = true;
}

static int password_send(struct ssh_conn *c)
{
	const char *user = auth_user(c), *password = c->host->password;
	unsigned user_len = (unsigned)strlen(user);
	int rc;

	if (c->auth->password_by == AUTH_PASSWORD)
		CONN_CALL(c, rc, libssh2_userauth_password_ex(c->session, user, user_len, password,
							      (unsigned)strlen(password), NULL));
	else
		CONN_CALL(c, rc, libssh2_userauth_keyboard_interactive_ex(c->session, user,
									  user_len, answer));
	return rc;
}

int auth_password_step(struct ssh_conn *c)
{
	struct ssh_auth *a = c->auth;
	int rc;

	if (!a->password_by) {
		rc = methods_ask(c);
		if (rc)
			return rc > 0 ? 0 : rc;
		if (!(a->methods & (AUTH_PASSWORD | AUTH_INTERACTIVE)))
			return auth_refused(c);
		a->password_by = a->methods & AUTH_PASSWORD ? AUTH_PASSWORD : AUTH_INTERACTIVE;
		auth_note_tried(a, a->password_by == AUTH_PASSWORD
					   ? "the password"
					   : "the password (keyboard-interactive)");
	}
	rc = password_send(c);
	if (rc == LIBSSH2_ERROR_PASSWORD_EXPIRED) {
		conn_fail(c, ERR_REFUSED, "login refused for user %s: the password has expired",
			  auth_user(c));
	} else if (rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED && a->odd_prompts) {
		conn_fail(c, ERR_REFUSED,
			  "login refused for user %s: the host asked for more than the password, "
			  "or for another one",
			  auth_user(c));
	} else if (rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED) {
		return auth_refused(c);
	} else if (rc && rc != LIBSSH2_ERROR_EAGAIN) {
		conn_fail_ssh(c, rc);
	}
	return rc;
}
