/* SPDX-License-Identifier: MIT */
/* buf: a growing run of bytes. Not shared between threads without handing it over whole. */
#ifndef EXED_BUF_H
#define EXED_BUF_H

#include <stdbool.h>
#include <stddef.h>

/* All zero is an empty buf. Allocation failure sets `failed`; later calls then do nothing, so that
 * a chain of appends needs one check at its end. */
struct buf {
	char *data; /* owned; not terminated by NUL unless buf_str was asked */
	size_t len;
	size_t cap;
	bool failed;
};

void buf_deinit(struct buf *b); /* frees the bytes; the buf is empty and usable after */
void buf_clear(struct buf *b);  /* empty, keeps the memory */
int buf_reserve(struct buf *b, size_t more); /* room for more bytes; -ERR_MEMORY */
void buf_add(struct buf *b, const void *data, size_t n); /* copies */
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_integer(struct buf *b, long long v); /* in decimal digits; a tenth of what buf_printf costs */
/* The same into text, without a NUL; returns how many bytes, at most BUF_DIGITS. */
#define BUF_DIGITS 20
size_t buf_digits(char *text, long long v);
void buf_drop(struct buf *b, size_t n); /* forgets the first n bytes */
/* The bytes as a C string, valid until the next change; NULL when the buf has failed. */
const char *buf_str(struct buf *b);
/* Hands the bytes over to the caller (free()), length in *n; the buf is empty after. NULL if failed. */
char *buf_take(struct buf *b, size_t *n);

/* Appends n bytes as the inside of a JSON string (RFC 8259, 7): quotes, backslash and control
 * bytes escaped, each ill-formed UTF-8 byte sequence as U+FFFD (Unicode, 3.9, maximal subparts).
 * Returns true when every byte was well-formed, so that the text says all there is. */
bool buf_json_text(struct buf *b, const void *data, size_t n);
/* The same between quotes. */
bool buf_json_string(struct buf *b, const void *data, size_t n);
/* Whether the n bytes are well-formed UTF-8. */
bool buf_is_utf8(const void *data, size_t n);
/* Appends n bytes as a terminal may have them: control characters (but newline and tab), what turns the
 * writing direction, and bytes that are not UTF-8 become \xNN or \u{NNNN}; a CR before a newline is left
 * out. */
void buf_escape(struct buf *b, const void *data, size_t n);
/* Standard base64 with padding (RFC 4648, 4). */
void buf_base64(struct buf *b, const void *data, size_t n);

#endif
