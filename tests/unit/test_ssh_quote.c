/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh_quote.c: what it writes is given to real shells, as sshd does it (SHELL
 * -c LINE), and what a command then says is compared. Shells that are not installed are passed
 * over. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ssh_quote.h"

static const char *const shells[][3] = {
	{"sh", NULL}, {"bash", NULL}, {"dash", NULL}, {"fish", NULL},
	{"tcsh", "-f", NULL}, {"busybox", "sh", NULL},
};
#define SHELLS (sizeof(shells) / sizeof(*shells))

static bool installed(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/usr/bin/%s", name);
	if (!access(path, X_OK))
		return true;
	snprintf(path, sizeof(path), "/bin/%s", name);
	return !access(path, X_OK);
}

static void child_run(const char *const *shell, const char *line, int in, int out)
{
	const char *argv[6] = {shell[0], shell[1], NULL};
	int n = shell[1] ? 2 : 1;

	argv[n++] = "-c";
	argv[n++] = line;
	argv[n] = NULL;
	dup2(in, 0);
	dup2(out, 1);
	close(in);
	close(out);
	execvp(argv[0], (char *const *)argv);
	_exit(127);
}

/* Runs `shell -c line` with head and input on stdin; its stdout goes to out. Returns its exit
 * code. */
static int shell_run(const char *const *shell, struct buf *line, const struct buf *head,
		     const char *input, struct buf *out)
{
	int in[2], from[2], status;
	struct buf all = {0};
	size_t done = 0;
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(from, O_CLOEXEC), 0);
	buf_add(&all, head->data, head->len);
	buf_puts(&all, input);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		child_run(shell, buf_str(line), in[0], from[1]);
	close(in[0]);
	close(from[1]);
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	for (;;) {
		struct pollfd fds[2] = {{from[0], POLLIN, 0}, {in[1], POLLOUT, 0}};
		ssize_t n;

		assert_true(poll(fds, done < all.len ? 2 : 1, 20000) > 0);
		if (done < all.len && fds[1].revents) {
			n = write(in[1], all.data + done, all.len - done);
			done = n > 0 ? done + (size_t)n : all.len;
			if (done == all.len) {
				close(in[1]);
				in[1] = -1;
			}
		} else if (in[1] >= 0 && done >= all.len) {
			close(in[1]);
			in[1] = -1;
		}
		if (!fds[0].revents)
			continue;
		assert_int_equal(buf_reserve(out, 65536), 0);
		n = read(from[0], out->data + out->len, 65536);
		if (n <= 0)
			break;
		out->len += (size_t)n;
	}
	close(from[0]);
	if (in[1] >= 0)
		close(in[1]);
	buf_deinit(&all);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct want {
	const char *command, *op_id, *input, *cwd;
	const char *const *env;
	int code;
};

/* The command must say the same under every shell: what the case says it says. */
static void expect(const struct want *w, const char *said)
{
	struct buf line = {0}, head = {0}, out = {0};
	struct err err = {0};
	unsigned ran = 0;

	assert_int_equal(ssh_quote_command(&line, &head, w->command, w->op_id, w->env, w->cwd,
					   &err), 0);
	assert_true(line.len < SSH_QUOTE_MAX);
	for (size_t i = 0; i < SHELLS; i++) {
		int code;

		if (!installed(shells[i][0]))
			continue;
		buf_clear(&out);
		code = shell_run(shells[i], &line, &head, w->input ? w->input : "", &out);
		if (code != w->code || strcmp(buf_str(&out), said))
			fail_msg("%s: code %d, said %.200s instead of %.200s\nline: %.300s",
				 shells[i][0], code, buf_str(&out), said, buf_str(&line));
		ran++;
	}
	assert_true(ran >= 2);
	buf_deinit(&line);
	buf_deinit(&head);
	buf_deinit(&out);
}

static void expect_says(const char *command, const char *said)
{
	const struct want w = {.command = command, .op_id = "j.0.1.1"};

	expect(&w, said);
}

static void simple_commands_take_the_plain_form(void **state)
{
	struct buf line = {0}, head = {0};

	(void)state;
	assert_int_equal(ssh_quote_command(&line, &head, "echo it's", "a.0.1.1", NULL, NULL, NULL),
			 0);
	assert_string_equal(buf_str(&line),
			    "exec env EXED_OP=a.0.1.1 /bin/sh -c 'echo it'\"'\"'s'");
	assert_int_equal(head.len, 0);
	buf_clear(&line);
	assert_int_equal(ssh_quote_command(&line, &head, "true", NULL, NULL, NULL, NULL), 0);
	assert_string_equal(buf_str(&line), "exec /bin/sh -c 'true'");
	buf_deinit(&line);
	buf_deinit(&head);
}

static void what_shells_read_differently_goes_to_stdin(void **state)
{
	static const char *const commands[] = {"a\\b", "a!b", "a\nb", "\x01", "\xc3\xa4", "-x",
					       "+x"};

	(void)state;
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		struct buf line = {0}, head = {0};

		assert_int_equal(ssh_quote_command(&line, &head, commands[i], "o", NULL, NULL,
						   NULL), 0);
		assert_string_equal(buf_str(&line),
				    "exec env EXED_OP=o sh -c 'IFS= read -r s && eval \"$s\"'");
		/* One line, or the rest would be taken for the user's input. */
		assert_ptr_equal(memchr(head.data, '\n', head.len), head.data + head.len - 1);
		buf_deinit(&line);
		buf_deinit(&head);
	}
}

static void every_shell_says_the_same(void **state)
{
	(void)state;
	expect_says("printf %s \"$EXED_OP\"", "j.0.1.1");
	expect_says("echo 'single' \"double\" \"'\"", "single double '\n");
	expect_says("printf '%s ' a\\\\b 'c\\d' !! !x", "a\\b c\\d !! !x ");
	expect_says("echo one\necho two", "one\ntwo\n");
	expect_says("\n\necho '\n'\n", "\n\n");
	expect_says("echo $((1+2)) ${x:-y} `echo z` $(echo q) | cat", "3 y z q\n");
	expect_says("for i in 1 2; do echo $i; done # comment", "1\n2\n");
	expect_says("cat <<'E'\nhere $x\nE\necho after", "here $x\nafter\n");
	expect_says("echo \"${n-none}${s-none}\"\\", "nonenone\\\n"); /* nothing of ours is left */
	expect_says("", "");
}

static void exit_codes_and_input_come_through(void **state)
{
	const struct want codes[] = {
		{.command = "exit 3", .code = 3},
		{.command = "exit 3\n", .code = 3},
		{.command = "kill -9 $$ # !", .code = 137},
		{.command = "cat; exit 7", .input = "one\ntwo\\\n", .code = 7},
		{.command = "cat; exit 7 # \\", .input = "one\ntwo\\\n", .code = 7},
	};
	const char *const said[] = {"", "", "", "one\ntwo\\\n", "one\ntwo\\\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(said) / sizeof(*said); i++)
		expect(&codes[i], said[i]);
}

static void environment_and_directory_are_set(void **state)
{
	static const char *const env[] = {"A=x y'z\nq\\ $HOME", "_b2=", "n=3", "s=4", NULL};
	const struct want w = {.command = "pwd; printf '%s|' \"$A\" \"$_b2\" \"$n$s\"\n"
					  "printf \"$EXED_OP|\"",
			       .op_id = "o", .env = env, .cwd = "/usr"};
	const struct want bad = {.command = "echo never", .cwd = "/non'existent", .code = 126};

	(void)state;
	expect(&w, "/usr\nx y'z\nq\\ $HOME||34|o|");
	expect(&bad, "");
}

static void a_name_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = {"=x", "1A=x", "A-B=x", "A", "A B=x", "A;true=x"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		const char *const env[] = {bad[i], NULL};
		struct buf line = {0}, head = {0};

		assert_int_equal(ssh_quote_command(&line, &head, "true", NULL, env, NULL, NULL),
				 -ERR_INVALID);
		buf_deinit(&line);
		buf_deinit(&head);
	}
}

/* Random texts of the bytes that shells care for, through printf %s. */
static void random_texts_come_through(void **state)
{
	static const char bytes[] = "ab '\"\\!$`\n\t;&|<>(){}[]*?~#%^=-+@,.:/\r\x01\x7f"
				    "\xc3\xa4\xff";
	unsigned seed = 20260131;

	(void)state;
	for (int round = 0; round < 40; round++) {
		struct buf text = {0}, command = {0};
		struct want w = {.op_id = "r"};
		int len = rand_r(&seed) % 40;
		/* Half of the rounds stay with what the plain form takes. */
		size_t choice = round % 2 ? sizeof(bytes) - 1 : 4;

		for (int i = 0; i < len; i++)
			buf_putc(&text, bytes[(size_t)rand_r(&seed) % choice]);
		buf_puts(&command, "printf %s ");
		/* Our own quoting, plain and slow. */
		for (const char *s = buf_str(&text); *s; s++) {
			if (*s == '\'')
				buf_puts(&command, "\"'\"");
			else
				buf_printf(&command, "'%c'", *s);
		}
		if (!len)
			buf_puts(&command, "''");
		w.command = buf_str(&command);
		expect(&w, buf_str(&text));
		buf_deinit(&text);
		buf_deinit(&command);
	}
}

static void long_commands_come_through(void **state)
{
	static const size_t sizes[] = {5000, 29000, 200000};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct buf command = {0}, said = {0};
		struct want w = {.op_id = "l"};

		buf_puts(&command, "echo ");
		for (size_t n = 0; n < sizes[i] / 10; n++)
			buf_puts(&command, "123456789 ");
		buf_puts(&command, "| wc -w");
		buf_printf(&said, "%zu\n", sizes[i] / 10);
		w.command = buf_str(&command);
		expect(&w, buf_str(&said));
		buf_deinit(&command);
		buf_deinit(&said);
	}
}

/* ---- become ---- */

/* Asks for the password of $SUDO when it is set, as sudo does whose caller has not been asked yet. */
static const char sudo_text[] =
	"#!/bin/sh\n"
	"[ \"$1\" = -H ] || exit 2; shift\n"
	"case $1 in\n"
	"-n) [ -z \"$SUDO\" ] || { echo 'sudo: a password is required' >&2; exit 1; }; shift ;;\n"
	"-S) [ \"$2\" = -p ] && [ -z \"$3\" ] || exit 2; shift 3\n"
	"  [ -z \"$SUDO\" ] || { IFS= read -r p; [ \"$p\" = \"$SUDO\" ] || exit 1; } ;;\n"
	"*) exit 2 ;;\n"
	"esac\n"
	"[ \"$1\" = -u ] || exit 2\n"
	"export BECAME=\"$2\"; shift 2; exec \"$@\"\n";

/* A directory with a sudo in it, first in PATH. */
static void sudo_make(char *dir, size_t n)
{
	const char *tmp = getenv("TMPDIR");
	char path[600], all[4096];
	FILE *f;

	snprintf(dir, n, "%s/exed-sudo-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sudo", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(sudo_text, f);
	fclose(f);
	assert_int_equal(chmod(path, 0755), 0);
	snprintf(all, sizeof(all), "%s:%s", dir, getenv("PATH"));
	setenv("PATH", all, 1);
}

static void sudo_end(const char *dir)
{
	char path[600];

	setenv("PATH", getenv("PATH") + strlen(dir) + 1, 1);
	snprintf(path, sizeof(path), "%s/sudo", dir);
	unlink(path);
	rmdir(dir);
	unsetenv("SUDO");
}

/* Runs it as `become`, under every shell, with "in" as input. */
static void expect_become(const struct ssh_become *become, const char *command, int code,
			  const char *said)
{
	struct buf line = {0}, head = {0}, out = {0};

	assert_int_equal(ssh_quote_command(&line, &head, command, "j.0.1.1", NULL, NULL, NULL), 0);
	assert_int_equal(ssh_quote_become(&line, &head, become, NULL), 0);
	assert_true(ssh_quote_login_safe(buf_str(&line)));
	if (become->password)
		assert_null(strstr(buf_str(&line), become->password));
	for (size_t i = 0; i < SHELLS; i++) {
		if (!installed(shells[i][0]))
			continue;
		buf_clear(&out);
		assert_int_equal(shell_run(shells[i], &line, &head, "in\n", &out), code);
		assert_string_equal(buf_str(&out) ? buf_str(&out) : "", said);
	}
	buf_deinit(&line);
	buf_deinit(&head);
	buf_deinit(&out);
}

static void a_password_is_for_sudo_alone_whether_it_asks_or_not(void **state)
{
	static const char plain[] = "echo $BECAME $EXED_OP; cat";
	static const char odd[] = "echo $BECAME \"$EXED_OP\" '\\!'; cat";
	const char *password = "pa ss'w\\ord!\"$x";
	struct ssh_become app = { "app", NULL }, deploy = { "ops$1", password };
	char dir[512];

	(void)state;
	sudo_make(dir, sizeof(dir));
	expect_become(&app, plain, 0, "app j.0.1.1\nin\n");
	expect_become(&app, odd, 0, "app j.0.1.1 \\!\nin\n");
	expect_become(&deploy, plain, 0, "ops$1 j.0.1.1\nin\n"); /* not asked */
	expect_become(&deploy, odd, 0, "ops$1 j.0.1.1 \\!\nin\n");
	setenv("SUDO", password, 1);
	expect_become(&deploy, plain, 0, "ops$1 j.0.1.1\nin\n");
	expect_become(&deploy, odd, 0, "ops$1 j.0.1.1 \\!\nin\n");
	expect_become(&app, plain, 1, "");
	deploy.password = "wrong";
	expect_become(&deploy, plain, 1, "");
	sudo_end(dir);
}

static void whom_sudo_cannot_be_asked_for_is_refused(void **state)
{
	static const struct ssh_become bad[] = {
		{ "", NULL }, { "-s", NULL }, { "a\\b", NULL }, { "a!b", NULL }, { "a\nb", NULL },
		{ "app", "two\nlines" }, { "app", "exed-become" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct buf line = {0}, head = {0};
		struct err err = {0};

		buf_puts(&line, "exec true");
		assert_int_equal(ssh_quote_become(&line, &head, &bad[i], &err), -ERR_INVALID);
		buf_deinit(&line);
		buf_deinit(&head);
	}
}

static void words_are_bare_where_that_means_the_same(void **state)
{
	static const struct { const char *word, *want; } cases[] = {
		{ "ls", "ls" }, { "-la", "-la" }, { "/var/log/x.y", "/var/log/x.y" }, { "", "''" },
		{ "a b", "'a b'" }, { "it's", "'it'\\''s'" }, { "*", "'*'" }, { "if", "'if'" },
		{ "A=b", "'A=b'" }, { "~", "'~'" }, { "a\nb", "'a\nb'" }, { "\xc3\xa9", "'\xc3\xa9'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b = {0};

		ssh_quote_word(&b, cases[i].word);
		assert_string_equal(buf_str(&b), cases[i].want);
		buf_deinit(&b);
	}
}

/* ---- a hundred thousand of them ---- */

#define MANY 100000
#define BATCH_BYTES 24000u /* of words; below SSH_QUOTE_MAX, whatever is added */
#define SAY "--say"        /* this program says its arguments, each with a NUL behind it */

/* A text of up to 24 bytes: of those that shells care for, or now and then of all there are. */
static void random_text(struct buf *out, unsigned *seed, bool login)
{
	static const char bytes[] = "ab-'\" $`;&|<>(){}[]*?~#%^=+@,.:/'\\!\n\t\r\x01\x7f\xc3\xa4\xff";
	size_t choice = login ? strcspn(bytes, "\\") : sizeof(bytes) - 1;
	int len = rand_r(seed) % 25;
	bool all = rand_r(seed) % 4 == 0;

	buf_clear(out);
	for (int i = 0; i < len; i++) {
		char c[2] = { (char)(1 + rand_r(seed) % 255), '\0' };

		if (!all || (login && !ssh_quote_login_safe(c)))
			c[0] = bytes[(size_t)rand_r(seed) % choice];
		buf_putc(out, c[0]);
	}
}

/* What a shell says must be the texts. */
static void expect_texts(const char *const *shell, struct buf *line, const struct buf *head,
			 const struct buf *want)
{
	struct buf out = {0};
	size_t at = 0;

	assert_int_equal(shell_run(shell, line, head, "", &out), 0);
	while (at < out.len && at < want->len && out.data[at] == want->data[at])
		at++;
	if (out.len != want->len || at != want->len)
		fail_msg("%s: at byte %zu of %zu (%zu were said): '%.40s'", shell[0], at, want->len, out.len,
			 at < want->len ? want->data + at : "");
	buf_deinit(&out);
}

/* A line with some words for `this program --say`; they are in want, too. Returns their number. */
static unsigned batch_make(struct buf *line, struct buf *want, unsigned *seed, bool login)
{
	struct buf text = {0};
	char self[300];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	unsigned words = 0;

	assert_true(n > 0);
	self[n] = '\0';
	buf_clear(line);
	buf_clear(want);
	buf_puts(line, self);
	buf_puts(line, " " SAY);
	while (line->len < BATCH_BYTES) {
		random_text(&text, seed, login);
		buf_putc(line, ' ');
		(login ? ssh_quote_login : ssh_quote_word)(line, buf_str(&text));
		buf_add(want, buf_str(&text), text.len + 1);
		words++;
	}
	buf_deinit(&text);
	return words;
}

/* The login shell itself reads the words. */
static void words_for_login_shells_come_through(void **state)
{
	struct buf line = {0}, want = {0}, none = {0};
	unsigned seed = 20260301;

	(void)state;
	for (unsigned done = 0; done < MANY;) {
		done += batch_make(&line, &want, &seed, true);
		for (size_t i = 0; i < SHELLS; i++)
			if (installed(shells[i][0]))
				expect_texts(shells[i], &line, &none, &want);
	}
	buf_deinit(&line);
	buf_deinit(&want);
}

/* The words stand in a command, which goes the way that all commands go. */
static void words_of_commands_come_through(void **state)
{
	struct buf command = {0}, want = {0};
	unsigned seed = 20260302;

	(void)state;
	for (unsigned done = 0; done < MANY;) {
		struct buf line = {0}, head = {0};

		done += batch_make(&command, &want, &seed, false);
		assert_int_equal(ssh_quote_command(&line, &head, buf_str(&command), "w.0.1.1", NULL, NULL,
						   NULL), 0);
		for (size_t i = 0; i < SHELLS; i++)
			if (installed(shells[i][0]))
				expect_texts(shells[i], &line, &head, &want);
		buf_deinit(&line);
		buf_deinit(&head);
	}
	buf_deinit(&command);
	buf_deinit(&want);
}

/* The words are values of the environment. */
static void values_of_the_environment_come_through(void **state)
{
	static const char say[] = "for i in 1 2 3 4 5 6 7 8; do "
				  "eval \"printf '%s\\\\0' \\\"\\$V$i\\\"\"; done";
	struct buf text = {0}, want = {0};
	unsigned seed = 20260303;

	(void)state;
	for (int round = 0; round < 100; round++) {
		struct buf line = {0}, head = {0}, values[8] = {{0}};
		const char *env[9] = {0};

		buf_clear(&want);
		for (int i = 0; i < 8; i++) {
			random_text(&text, &seed, false);
			buf_printf(&values[i], "V%d=", i + 1);
			buf_puts(&values[i], buf_str(&text));
			env[i] = buf_str(&values[i]);
			buf_add(&want, buf_str(&text), text.len + 1);
		}
		assert_int_equal(ssh_quote_command(&line, &head, say, "e", env, "/", NULL), 0);
		for (size_t i = 0; i < SHELLS; i++)
			if (installed(shells[i][0]))
				expect_texts(shells[i], &line, &head, &want);
		for (int i = 0; i < 8; i++)
			buf_deinit(&values[i]);
		buf_deinit(&line);
		buf_deinit(&head);
	}
	buf_deinit(&text);
	buf_deinit(&want);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simple_commands_take_the_plain_form),
		cmocka_unit_test(what_shells_read_differently_goes_to_stdin),
		cmocka_unit_test(every_shell_says_the_same),
		cmocka_unit_test(exit_codes_and_input_come_through),
		cmocka_unit_test(environment_and_directory_are_set),
		cmocka_unit_test(a_name_that_is_none_is_refused),
		cmocka_unit_test(random_texts_come_through),
		cmocka_unit_test(long_commands_come_through),
		cmocka_unit_test(a_password_is_for_sudo_alone_whether_it_asks_or_not),
		cmocka_unit_test(whom_sudo_cannot_be_asked_for_is_refused),
		cmocka_unit_test(words_are_bare_where_that_means_the_same),
		cmocka_unit_test(words_for_login_shells_come_through),
		cmocka_unit_test(words_of_commands_come_through),
		cmocka_unit_test(values_of_the_environment_come_through),
	};

	if (argc > 1 && !strcmp(argv[1], SAY)) {
		for (int i = 2; i < argc; i++)
			fwrite(argv[i], 1, strlen(argv[i]) + 1, stdout);
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
