/* SPDX-License-Identifier: MIT */
/* config_keep: what a reload must leave as it is. Used on the loop thread, while neither
 * configuration is in anybody else's hands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_table.h"

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool same_value(const struct config_value *a, const struct config_value *b)
{
	if (!same_text(a->text, b->text) || a->number != b->number || a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->items[i], b->items[i]) != 0 ||
		    (a->numbers && a->numbers[i] != b->numbers[i]))
			return false;
	return true;
}

/* None of those that need a restart is a list of times, so numbers are not copied. */
static int copy_value(struct config_value *to, const struct config_value *from)
{
	char *text = from->text ? strdup(from->text) : NULL;
	char **items = from->count ? calloc(from->count + 1, sizeof(*items)) : NULL;
	bool ok = (text || !from->text) && (items || !from->count);

	for (size_t i = 0; ok && i < from->count; i++)
		ok = (items[i] = strdup(from->items[i])) != NULL;
	if (!ok) {
		for (size_t i = 0; items && items[i]; i++)
			free(items[i]);
		free(items);
		free(text);
		return -ERR_MEMORY;
	}
	config_value_deinit(to);
	to->text = text;
	to->items = items;
	to->count = from->count;
	to->number = from->number;
	to->given = from->given;
	return 0;
}

int config_keep(struct config *fresh, const struct config *old, config_report_fn *fn, void *arg)
{
	char line[160];

	for (size_t i = 0; i < config_table_size; i++) {
		const struct setting *s = &config_table[i];
		struct config_value *v = &fresh->values[i];

		if (!(s->flags & SETTING_RESTART) || same_value(v, &old->values[i]))
			continue;
		if (copy_value(v, &old->values[i]))
			return -ERR_MEMORY;
		snprintf(line, sizeof(line), "[%s] %s needs a restart", s->section, s->key);
		fn(arg, line);
	}
	return config_make_listeners(fresh);
}
