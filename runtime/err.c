/* SPDX-License-Identifier: MIT */
/* err: fills struct err. Any thread. */
#include "err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int err_vset(struct err *e, int code, const char *fmt, va_list ap)
{
	if (e) {
		e->code = code;
		vsnprintf(e->message, sizeof(e->message), fmt, ap);
	}
	return -code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(e, code, fmt, ap);
	va_end(ap);
	return -code;
}

int err_errno(struct err *e, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	err_vset(e, ERR_SYSTEM, fmt, ap);
	va_end(ap);
	if (e) {
		size_t used = strlen(e->message);
		char why[96];

		snprintf(e->message + used, sizeof(e->message) - used, ": %s",
			 strerror_r(saved, why, sizeof(why)));
	}
	return -ERR_SYSTEM;
}

const char *err_name(int code)
{
	static const char *const names[] = {
		[ERR_OK] = "ok",
		[ERR_INVALID] = "invalid",
		[ERR_NOT_FOUND] = "not_found",
		[ERR_TIMEOUT] = "timeout",
		[ERR_CANCELLED] = "cancelled",
		[ERR_UNREACHABLE] = "unreachable",
		[ERR_REFUSED] = "refused",
		[ERR_CLOSED] = "closed",
		[ERR_LIMIT] = "limit",
		[ERR_MEMORY] = "memory",
		[ERR_SYSTEM] = "system",
		[ERR_PROTOCOL] = "protocol",
		[ERR_AWAY] = "away",
	};

	if (code < 0)
		code = -code;
	return (size_t)code < sizeof(names) / sizeof(*names) ? names[code] : "unknown";
}
