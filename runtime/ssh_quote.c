/* SPDX-License-Identifier: MIT */
/* ssh_quote: the two forms of an exec request. Pure functions; any thread. */
#include "ssh_quote.h"

#include <ctype.h>
#include <string.h>

/* The script that is read from stdin: one line, so that what follows it is the user's input. */
#define READ_SCRIPT "sh -c 'IFS= read -r s && eval \"$s\"'"

/* Between sudo and the command: sudo may or may not have read the password from stdin. */
#define BECOME_MARK "exed-become"
#define SKIP_PASSWORD "/bin/sh -c 'while IFS= read -r s;do [ \"$s\" = " BECOME_MARK \
	" ]&&break;done;unset s;exec \"$@\"' sh "

/* A script line is read byte by byte by the shell on the host; this much still takes it 0.3 s. */
#define HEAD_MAX (1024u * 1024u)

bool ssh_quote_login_safe(const char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e || *s == '\\' || *s == '!')
			return false;
	return true;
}

void ssh_quote_login(struct buf *b, const char *s)
{
	buf_putc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_puts(b, "'\"'\"'");
		else
			buf_putc(b, *s);
	}
	buf_putc(b, '\'');
}

void ssh_quote_sh(struct buf *b, const char *s)
{
	buf_putc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_puts(b, "'\\''");
		else if (*s == '\n')
			buf_puts(b, "'\"$x_nl\"'");
		else
			buf_putc(b, *s);
	}
	buf_putc(b, '\'');
}

/* What a shell would take for its own at the start of a command. */
static bool is_reserved(const char *s)
{
	static const char *const words[] = { "case", "do",   "done", "elif",  "else",   "esac",
					     "fi",   "for",  "if",   "in",    "select", "then",
					     "time", "until", "while", "function" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(s, words[i]))
			return true;
	return false;
}

void ssh_quote_word(struct buf *b, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "._-/:,@+%";

	if (*s && !s[strspn(s, plain)] && !is_reserved(s)) {
		buf_puts(b, s);
		return;
	}
	buf_putc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_puts(b, "'\\''");
		else
			buf_putc(b, *s);
	}
	buf_putc(b, '\'');
}

/* No shell gives these bytes a meaning. */
static bool word_safe(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && *s != '.' && *s != '-' && *s != '_')
			return false;
	return true;
}

/* export NAME='value' for each; a name is what POSIX calls a name. */
static int quote_env(struct buf *b, const char *const *env, struct err *err)
{
	for (; env && *env; env++) {
		const char *eq = strchr(*env, '=');
		const char *c;

		for (c = *env; c < eq; c++)
			if (*c != '_' && !isalpha((unsigned char)*c) &&
			    !(isdigit((unsigned char)*c) && c > *env))
				break;
		if (!eq || c != eq || eq == *env)
			return err_set(err, ERR_INVALID, "environment: not NAME=value: %.64s",
				       *env);
		buf_puts(b, "export ");
		buf_add(b, *env, (size_t)(eq - *env) + 1);
		ssh_quote_sh(b, eq + 1);
		buf_putc(b, ';');
	}
	return 0;
}

/* cd says itself on stderr what is wrong; 126 is the shell's own code for "cannot be run". */
static void quote_cwd(struct buf *b, const char *cwd)
{
	struct buf path = {0};

	/* A relative directory could otherwise be read as an option, as -, or along CDPATH. */
	if (*cwd != '/')
		buf_puts(&path, "./");
	buf_puts(&path, cwd);
	buf_puts(b, "cd ");
	ssh_quote_sh(b, buf_str(&path) ? path.data : "");
	buf_puts(b, "||exit 126;");
	b->failed |= path.failed;
	buf_deinit(&path);
}

static int quote_script(struct buf *head, const char *command, const char *const *env,
			const char *cwd, struct err *err)
{
	int rc;

	/* What env names is the command's: no variable of ours may be in its way, or taken away after it. */
	buf_puts(head, "unset s;" SSH_QUOTE_NEWLINE);
	rc = quote_env(head, env, err);
	if (rc)
		return rc;
	if (cwd && *cwd)
		quote_cwd(head, cwd);
	buf_puts(head, "eval 'unset x_nl;'");
	ssh_quote_sh(head, command);
	buf_putc(head, '\n');
	if (head->len > HEAD_MAX)
		return err_set(err, ERR_LIMIT, "command and environment are longer than %u bytes",
			       HEAD_MAX);
	return 0;
}

int ssh_quote_command(struct buf *line, struct buf *head, const char *command, const char *op_id,
		      const char *const *env, const char *cwd, struct err *err)
{
	/* sh would take a command that begins with - or + for an option. */
	bool plain = !(env && *env) && !(cwd && *cwd) && *command != '-' && *command != '+' &&
		     ssh_quote_login_safe(command);
	int rc = 0;

	if (op_id && !ssh_quote_login_safe(op_id))
		return err_set(err, ERR_INVALID, "op id: only printable ASCII without \\ and !");
	buf_puts(line, "exec ");
	if (op_id) {
		buf_puts(line, "env EXED_OP=");
		if (word_safe(op_id))
			buf_puts(line, op_id);
		else
			ssh_quote_login(line, op_id);
		buf_putc(line, ' ');
	}
	if (plain) {
		size_t start = line->len;

		buf_puts(line, "/bin/sh -c ");
		ssh_quote_login(line, command);
		if (line->len >= SSH_QUOTE_MAX) {
			line->len = start;
			plain = false;
		}
	}
	if (!plain) {
		buf_puts(line, READ_SCRIPT);
		rc = quote_script(head, command, env, cwd, err);
	}
	if (!rc && (line->failed || head->failed))
		rc = err_set(err, ERR_MEMORY, "out of memory");
	return rc;
}

static bool become_good(const struct ssh_become *b)
{
	const char *p = b->password;

	return *b->user && *b->user != '-' && ssh_quote_login_safe(b->user) &&
	       !(p && (strchr(p, '\n') || !strcmp(p, BECOME_MARK)));
}

int ssh_quote_become(struct buf *line, struct buf *head, const struct ssh_become *become,
		     struct err *err)
{
	const char *password = become->password;
	struct buf l = { 0 }, h = { 0 };

	if (!become_good(become))
		return err_set(err, ERR_INVALID, "ansible_become: no user or password for sudo");
	buf_puts(&l, password ? "exec sudo -H -S -p '' -u " : "exec sudo -H -n -u ");
	if (word_safe(become->user))
		buf_puts(&l, become->user);
	else
		ssh_quote_login(&l, become->user);
	buf_putc(&l, ' ');
	if (password) {
		buf_puts(&l, SKIP_PASSWORD);
		buf_puts(&h, password);
		buf_puts(&h, "\n" BECOME_MARK "\n");
	}
	buf_add(&l, line->data + strlen("exec "), line->len - strlen("exec "));
	buf_add(&h, head->data, head->len);
	l.failed |= line->failed || head->failed || h.failed;
	buf_deinit(line);
	buf_deinit(head);
	*line = l;
	*head = h;
	return l.failed ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}
