/* SPDX-License-Identifier: MIT */
/* regex: PCRE2 with limits, without its compiler to machine code. One thread. */
#include "regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

/* A name of 30 bytes costs a usual expression some dozens of steps. */
#define STEPS_MAX 5000u
#define DEPTH_MAX 500u
#define HEAP_KIB 256u
#define PARENS_MAX 50u

struct regex {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *limits;
};

static int say_error(int code, size_t at, struct err *err)
{
	PCRE2_UCHAR text[128] = "";

	pcre2_get_error_message(code, text, sizeof(text));
	return err_set(err, ERR_INVALID, "%s (at byte %zu)", (char *)text, at + 1);
}

static int compile(struct regex *r, const char *text, size_t n, struct err *err)
{
	const unsigned options = PCRE2_ANCHORED | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP |
				 PCRE2_NEVER_BACKSLASH_C;
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	PCRE2_SIZE at = 0;
	int code = 0;

	if (!context)
		return err_set(err, ERR_MEMORY, "out of memory");
	pcre2_set_parens_nest_limit(context, PARENS_MAX);
	r->code = pcre2_compile((PCRE2_SPTR)text, n, options, &code, &at, context);
	pcre2_compile_context_free(context);
	return r->code ? 0 : say_error(code, at, err);
}

struct regex *regex_new(const char *text, size_t n, struct err *err)
{
	struct regex *r;

	if (n > REGEX_MAX) {
		err_set(err, ERR_LIMIT, "it is longer than %u bytes", REGEX_MAX);
		return NULL;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		err_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	if (compile(r, text, n, err))
		goto fail;
	r->data = pcre2_match_data_create(1, NULL); /* what it captures is not asked */
	r->limits = pcre2_match_context_create(NULL);
	if (!r->data || !r->limits) {
		err_set(err, ERR_MEMORY, "out of memory");
		goto fail;
	}
	pcre2_set_match_limit(r->limits, STEPS_MAX);
	pcre2_set_depth_limit(r->limits, DEPTH_MAX);
	pcre2_set_heap_limit(r->limits, HEAP_KIB);
	return r;
fail:
	regex_free(r);
	return NULL;
}

void regex_free(struct regex *r)
{
	if (!r)
		return;
	pcre2_match_context_free(r->limits);
	pcre2_match_data_free(r->data);
	pcre2_code_free(r->code);
	free(r);
}

int regex_match(struct regex *r, const char *s, size_t n, struct err *err)
{
	int rc = pcre2_match(r->code, (PCRE2_SPTR)s, n, 0, 0, r->data, r->limits);

	if (rc >= 0)
		return 1;
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	return err_set(err, ERR_LIMIT, "it takes too much work on '%.*s'", (int)(n > 60 ? 60 : n),
		       s);
}
