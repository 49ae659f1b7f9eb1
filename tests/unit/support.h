/* SPDX-License-Identifier: MIT */
/* support: what several unit tests need: turning the loop until something holds, and a count of the
 * descriptors and children that a test must not leave, and a directory of its own. */
#ifndef EXED_TEST_SUPPORT_H
#define EXED_TEST_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

/* Turns the loop until ready(arg) holds; false when it does not within ms. */
bool support_turn_until(struct loop *loop, int64_t ms, bool (*ready)(void *arg), void *arg);
/* Turns the loop until *flag is at least n; false when it is not within 20 s. */
bool support_turn_to(struct loop *loop, const int *flag, int n);
/* Turns the loop for that long, to see that nothing happens. */
void support_turn(struct loop *loop, int64_t ms);

/* Makes a directory for a test, below $TMPDIR: whoever runs the tests removes what a killed one has left there. Its
 * path is put into dir[cap]. False: it cannot be made. */
bool support_make_dir(char *dir, size_t cap);

/* Open descriptors of this process, without the one that counts them. */
int support_count_fds(void);
/* Children of this process, zombies too. */
bool support_has_children(void);

#endif
