/* SPDX-License-Identifier: MIT */
/* ssh_guard: bounds on what one host can make us read, hold, send and compute. Reading stops where a
 * bound is passed, so that libssh2 comes back from whatever it does, and the turn ends the connection
 * with the reason. libssh2 itself has no bound for most of it: it answers every request, keeps every
 * message that nobody has asked for, and skips lines before the banner for ever. One I/O thread. */
#include <string.h>

#include "loop.h"
#include "ssh_conn.h"

/* libssh2 reads the banner byte by byte, so this costs 15 ms. */
#define BANNER_MAX (16u * 1024u)
/* The key exchange and the login; a real host sends 2 to 6 KiB, and a banner for its users. */
#define LOGIN_MAX (256u * 1024u)
/* Messages since the last that was of use, and so much more for each ms since then (ClientAlive of
 * sshd is 100 bytes a second at most). libssh2 keeps those that it does not know in a list, and goes
 * through it at each new one. */
#define USELESS_MAX (512u * 1024u)
#define USELESS_PER_MS 16u
/* What libssh2 may hold: its session, and per channel a window full of small messages. A lane has many
 * channels, to a host that others are reached through. */
#define HELD_BASE (1024u * 1024u)
#define HELD_CHANNEL (3u * 1024u * 1024u)
#define HELD_LANE (64u * 1024u * 1024u)
/* Answers that the host does not take: it is not read further until it has. */
#define UNSENT_MAX (256u * 1024u)
/* New keys (RFC 4253, 9: each GB or hour): so many, then one a second or 16 KiB (sshd lets
 * RekeyLimit be as small as one likes). Each costs 1 ms, and two
 * offers, of which libssh2 frees both. */
#define REKEYS 10u
#define KEXINIT_MIN 62u /* bytes of the shortest offer */

static const char banner_start[] = "SSH-";

/* Follows the lines before the banner up to its end. */
static void watch_banner(struct ssh_conn *c, const char *data, size_t n)
{
	struct ssh_guard *g = &c->guard;

	for (size_t i = 0; i < n && !g->greeted; i++) {
		g->before++;
		if (data[i] == '\n') {
			g->greeted = !strncmp(g->line, banner_start, sizeof(banner_start) - 1);
			g->at = g->greeted ? g->at : 0;
		} else if (g->at + 1 < sizeof(g->line)) {
			g->line[g->at++] = data[i];
			g->line[g->at] = '\0';
		}
	}
	if (g->before > BANNER_MAX)
		g->excess = "sent too much before its banner";
	else if (g->greeted && strncmp(g->line, "SSH-2.", 6) && strncmp(g->line, "SSH-1.99", 8))
		g->excess = "speaks only SSH-1, which is not safe";
}

bool guard_may_read(struct ssh_conn *c)
{
	size_t held = HELD_BASE + (c->channels + 1) * HELD_CHANNEL;

	if (c->lane)
		held += HELD_LANE;
	if (c->guard.held > held)
		c->guard.excess = "sent more messages that nobody asked for than can be kept";
	if (c->guard.excess)
		return false;
	c->guard.choked = c->out.len > UNSENT_MAX;
	return !c->guard.choked;
}

void guard_got(struct ssh_conn *c, const char *data, size_t n)
{
	struct ssh_guard *g = &c->guard;

	g->received += n;
	g->useless += n;
	if (!g->greeted)
		watch_banner(c, data, n);
	if (c->phase < SSH_READY && g->received > LOGIN_MAX && !g->excess)
		g->excess = c->phase < SSH_LOGIN ? "sent too much before the end of the handshake" :
						   "sent too much before the end of the login";
	if (c->phase == SSH_READY && g->useless > USELESS_MAX &&
	    g->useless > USELESS_MAX + (uint64_t)(loop_now_ms() - g->useful_ms) * USELESS_PER_MS)
		g->excess = "floods the connection with what nobody asked for";
}

void guard_useful(struct ssh_conn *c)
{
	c->guard.useless = 0;
	c->guard.useful_ms = loop_now_ms();
}

void guard_freed(struct ssh_conn *c, const unsigned char *packet, size_t n)
{
	struct ssh_guard *g = &c->guard;
	uint64_t seconds;

	if (*packet != 20 || n < KEXINIT_MIN)
		return;
	seconds = (uint64_t)(loop_now_ms() - c->born_ms) / 1000;
	if (++g->offers > 2 * (REKEYS + seconds + (g->received >> 14)))
		g->excess = "begins one key exchange after the other";
}

void guard_judge(struct ssh_conn *c)
{
	if (c->guard.excess && !c->closing)
		conn_fail(c, ERR_PROTOCOL, "the host %s", c->guard.excess);
}
