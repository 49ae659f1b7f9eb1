/* SPDX-License-Identifier: MIT */
/* left: where those who end something say what somebody else has not ended before: fibers, waits, events on
 * a loop, numbers that must be nothing. Tests ask for it (tests/README.md): each line goes to the file that the
 * environment variable EXED_TEST_LEFT names. Without that nobody looks, and nothing is written. */
#ifndef EXED_LEFT_H
#define EXED_LEFT_H

#include <stdbool.h>

struct event_base;
struct script;

/* Whether somebody wants to know. Any thread. */
bool left_is_wanted(void);
/* Nobody wants to know any more: something was given up that may hold anything. When there are no other threads
 * that tell. */
void left_forget(void);
/* One line, without its newline. Any thread. */
void left_tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Each fiber that runs and that nobody has cancelled: where it began, where it stands and what it waits for.
 * Before whoever frees the state ends them. Loop thread. */
void left_fibers(struct script *script);
/* Each event that is still waited for. Right before the base is freed, by its thread or when that is over. */
void left_events(struct event_base *base, const char *whose);
/* Each gauge that is not 0, at the end of the program, when there are no other threads. */
void left_gauges(void);

#endif
