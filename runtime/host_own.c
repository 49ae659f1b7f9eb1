/* SPDX-License-Identifier: MIT */
/* host_own: copies of texts, and the one place where values of hosts become part of a command. Values never
 * stand in the command's text themselves: wherever an author names one, between quotes of his own or in a
 * here-document, the shell reads a variable there and nothing of the value as words of its language. */
#include "host_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssh_quote.h"

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

static bool copy_list(char ***to, char *const *from)
{
	size_t n = 0;

	if (!from)
		return true;
	while (from[n])
		n++;
	*to = calloc(n + 1, sizeof(**to));
	for (size_t i = 0; *to && i < n; i++)
		if (!((*to)[i] = strdup(from[i])))
			return false;
	return *to != NULL;
}

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

struct host_own *host_own_copy(const struct host_own *from)
{
	struct host_own *own = calloc(1, sizeof(*own));

	if (!own)
		return NULL;
	own->limit_ms = from->limit_ms;
	if (from->input && (own->input = malloc(from->input_len + 1))) {
		memcpy(own->input, from->input, from->input_len);
		own->input_len = from->input_len;
	}
	if (copy_list(&own->values, from->values) && copy_list(&own->env, from->env) &&
	    copy_text(&own->command, from->command) && copy_text(&own->cwd, from->cwd) &&
	    (own->input || !from->input))
		return own;
	host_own_free(own);
	return NULL;
}

void host_own_free(struct host_own *own)
{
	if (!own)
		return;
	free_list(own->values);
	free_list(own->env);
	free(own->command);
	free(own->input);
	free(own->cwd);
	free(own);
}

/* Whether a shell would read it as one word without quotes, or there is no memory to tell. */
static bool is_plain(const char *value)
{
	struct buf word = { 0 };
	bool plain;

	ssh_quote_word(&word, value);
	plain = !buf_str(&word) || !strcmp(word.data, value);
	buf_deinit(&word);
	return plain;
}

/* Puts value number i of those in out where it is named. */
static int put_in_place(struct buf *out, size_t i, const char *value, struct err *err)
{
	struct buf text = { 0 };
	const char *at, *from = buf_str(out);
	char place[24];

	snprintf(place, sizeof(place), HOST_OWN_PLACE, i);
	if (!from)
		return err_set(err, ERR_MEMORY, "out of memory");
	if (strstr(from, place) && !is_plain(value))
		return err_set(err, ERR_INVALID,
			       "a value with other bytes than letters, digits and ._-/:,@+%% cannot be put into "
			       "a command with exed_shell = raw");
	for (; (at = strstr(from, place)); from = at + strlen(place)) {
		buf_add(&text, from, (size_t)(at - from));
		buf_puts(&text, value);
	}
	buf_puts(&text, from);
	buf_deinit(out);
	*out = text;
	return 0;
}

int host_own_command(const struct host_own *own, const char *command, bool raw, struct buf *out,
		     struct err *err)
{
	int rc = 0;

	for (size_t i = 0; !raw && own->values && own->values[i]; i++) {
		buf_printf(out, "x_h%zu=", i + 1);
		ssh_quote_word(out, own->values[i]);
		buf_putc(out, ';');
	}
	buf_puts(out, own->command ? own->command : command);
	for (size_t i = 0; raw && !rc && own->values && own->values[i]; i++)
		rc = put_in_place(out, i + 1, own->values[i], err);
	if (!rc && !buf_str(out))
		rc = err_set(err, ERR_MEMORY, "out of memory");
	return rc;
}
