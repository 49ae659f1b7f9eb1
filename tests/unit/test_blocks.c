/* SPDX-License-Identifier: MIT */
/* Tests of runtime/blocks.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "blocks.h"

#define MANY 2000

static void fill(void *block, size_t n, int seed)
{
	memset(block, seed & 255, n);
}

static void expect(const unsigned char *block, size_t n, int seed)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(block[i], seed & 255);
}

static void blocks_of_every_size_do_not_overlap_and_are_aligned(void **state)
{
	struct blocks b = { 0 };
	void *held[1200] = { 0 };

	(void)state;
	for (size_t n = 1; n < 1200; n++) {
		held[n] = blocks_resize(&b, NULL, 0, n);
		assert_non_null(held[n]);
		assert_int_equal((uintptr_t)held[n] % 16, 0);
		fill(held[n], n, (int)n);
	}
	for (size_t n = 1; n < 1200; n++) {
		expect(held[n], n, (int)n);
		blocks_put(&b, held[n], n);
	}
	blocks_deinit(&b);
}

static void what_a_block_holds_moves_with_it(void **state)
{
	static const size_t sizes[] = { 1, 16, 17, 40, 512, 513, 5000, 512, 100, 16, 3, 600, 1 };
	struct blocks b = { 0 };
	unsigned char *block = NULL;
	size_t old = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t n = sizes[i];

		block = blocks_resize(&b, block, old, n);
		assert_non_null(block);
		if (old)
			expect(block, old < n ? old : n, (int)i - 1);
		fill(block, n, (int)i);
		old = n;
	}
	blocks_put(&b, block, old);
	blocks_deinit(&b);
}

/* What is given back is used again: so many rounds would else need a hundred times the slabs. */
static void small_blocks_are_used_again(void **state)
{
	struct blocks b = { 0 };
	void *held[MANY];
	void *slabs = NULL;

	(void)state;
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < MANY; i++)
			held[i] = blocks_resize(&b, NULL, 0, (size_t)(i % 512 + 1));
		for (int i = 0; i < MANY; i++)
			blocks_put(&b, held[i], (size_t)(i % 512 + 1));
		if (round)
			assert_ptr_equal(b.slabs, slabs);
		slabs = b.slabs;
	}
	blocks_deinit(&b);
	assert_null(b.slabs);
}

static void small_ones_that_were_not_given_back_are_freed_at_the_end(void **state)
{
	struct blocks b = { 0 };

	(void)state;
	blocks_put(&b, NULL, 0);
	for (int i = 0; i < MANY; i++) {
		void *block = blocks_resize(&b, NULL, 0, 64);

		assert_non_null(block);
		if (!b.slabs) /* built so that all is malloc's */
			blocks_put(&b, block, 64);
	}
	blocks_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_every_size_do_not_overlap_and_are_aligned),
		cmocka_unit_test(what_a_block_holds_moves_with_it),
		cmocka_unit_test(small_blocks_are_used_again),
		cmocka_unit_test(small_ones_that_were_not_given_back_are_freed_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
