/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh_pace.c against a model of hosts, in a time of its own: logins that wait for a network,
 * that share processors, or that never end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "ssh_pace.h"

#define MOST_LOGINS 4000
#define STEP_US 1000

/* One login of the model: so much of the network, then so much work of the processor that all share. */
struct host {
	struct ssh_login login;
	int64_t net_us, work_ns;
	bool begun, ended;
	int64_t ended_us;
};

static struct host hosts[MOST_LOGINS];

struct model {
	struct ssh_pace pace;
	int n, next, ended;
	int64_t now_us;
	unsigned most;      /* were under way at once */
	int64_t share_us;   /* of the processor, in a step: its whole time, or what others leave of it */
};

static void model_init(struct model *m, int n, int64_t net_us, int64_t work_us)
{
	memset(m, 0, sizeof(*m));
	memset(hosts, 0, sizeof(hosts));
	ssh_pace_init(&m->pace);
	m->n = n;
	m->share_us = STEP_US;
	for (int i = 0; i < n; i++) {
		hosts[i].net_us = net_us;
		hosts[i].work_ns = work_us * 1000;
	}
}

static void begin_those_that_may(struct model *m)
{
	int64_t wait_us;

	while (m->next < m->n && ssh_pace_may_begin(&m->pace, m->now_us, &wait_us)) {
		ssh_pace_begin(&m->pace, &hosts[m->next].login, m->now_us);
		hosts[m->next++].begun = true;
	}
	if (m->pace.under_way > m->most)
		m->most = m->pace.under_way;
}

static void end_one(struct model *m, struct host *h)
{
	h->ended = true;
	h->ended_us = m->now_us;
	m->ended++;
	ssh_pace_done(&m->pace, &h->login, m->now_us, m->next < m->n);
}

static bool computes(const struct host *h)
{
	return h->begun && !h->ended && h->net_us <= 0;
}

/* All that compute have the same share of the processor. */
static void step(struct model *m)
{
	int64_t computing = 0, share;

	begin_those_that_may(m);
	m->now_us += STEP_US;
	for (int i = 0; i < m->next; i++) {
		if (hosts[i].begun && !hosts[i].ended)
			hosts[i].net_us -= STEP_US;
		computing += computes(&hosts[i]);
	}
	share = computing ? m->share_us * 1000 / computing : 0;
	for (int i = 0; i < m->next; i++) {
		if (!computes(&hosts[i]))
			continue;
		hosts[i].work_ns -= share;
		if (hosts[i].work_ns <= 0)
			end_one(m, &hosts[i]);
	}
}

/* Until all but so many have ended. */
static void run(struct model *m, int all_but)
{
	while (m->ended < m->n - all_but) {
		step(m);
		assert_true(m->now_us < 100 * 1000000);
	}
}

static void where_processors_are_waited_for_few_are_under_way(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 1000, 2000, 2000);
	run(&m, 0);
	assert_in_range(m.most, SSH_PACE_LEAST, 2 * SSH_PACE_LEAST);
	/* And no time is lost: 1,000 x 2 ms of work. */
	assert_in_range(m.now_us, 2000000, 2200000);
	/* They end one after another: half of them when half of the time is over. */
	assert_in_range(hosts[500].ended_us, 950000, 1100000);
}

/* As where nodes and hosts are on one machine: a fifth of it is ours. */
static void also_where_others_leave_little_of_them(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 400, 2000, 2000);
	m.share_us = STEP_US / 5;
	run(&m, 0);
	assert_in_range(m.most, SSH_PACE_LEAST, 2 * SSH_PACE_LEAST);
	assert_in_range(m.now_us, 4000000, 4100000);
}

static void where_the_network_is_waited_for_all_are_soon_under_way(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 2000, 1000000, 100);
	run(&m, 0);
	assert_int_equal(m.most, SSH_PACE_MOST);
	/* With all that may be under way from the beginning it would take 8 s. */
	assert_in_range(m.now_us, 8000000, 10000000);
}

static void it_need_not_be_learnt_again(void **state)
{
	struct model m;
	int64_t first_us;

	(void)state;
	model_init(&m, 1200, 150000, 100);
	run(&m, 1000);
	first_us = m.now_us;
	run(&m, 0);
	/* 1,000 of them, 256 in 150 ms. The first 200 took as long. */
	assert_in_range(m.now_us - first_us, 400000, 900000);
}

static void where_processors_come_to_be_waited_for_there_are_few_again(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 3000, 300000, 100);
	for (int i = 1000; i < m.n; i++) {
		hosts[i].net_us = 2000;
		hosts[i].work_ns = 2000000;
	}
	run(&m, 2000);
	assert_int_equal(m.pace.limit, SSH_PACE_MOST);
	/* Each halving takes as long as those take that began before it. */
	run(&m, 1000);
	m.most = 0;
	run(&m, 0);
	assert_in_range(m.most, SSH_PACE_LEAST, 2 * SSH_PACE_LEAST);
}

static void hosts_that_hang_hold_nobody_up(void **state)
{
	struct model m;
	int hanging = 0;

	(void)state;
	model_init(&m, 2000, 2000, 1000);
	for (int i = 0; i < m.n; i++)
		if (i % 20 == 7) {
			hosts[i].net_us = INT64_MAX / 2;
			hanging++;
		}
	run(&m, hanging);
	assert_in_range(m.now_us, 1900000, 2300000);
	assert_int_equal(m.pace.under_way, hanging);
}

static void nor_do_those_that_all_hang(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 1000, 2000, 1000);
	for (int i = 100; i < 300; i++)
		hosts[i].net_us = INT64_MAX / 2;
	run(&m, 200);
	/* Found out in five times 100 ms. */
	assert_in_range(m.now_us, 800000, 1500000);
	for (int i = 100; i < 300; i++)
		ssh_pace_drop(&m.pace, &hosts[i].login);
	assert_int_equal(m.pace.under_way, 0);
	assert_int_equal(m.pace.nwaited, 0);
}

static void far_hosts_among_near_ones_slow_neither(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 2000, 2000, 1000);
	for (int i = 0; i < m.n; i += 10)
		hosts[i].net_us = 300000;
	run(&m, 0);
	assert_in_range(m.now_us, 2000000, 2700000);
}

static void far_hosts_after_near_ones_are_all_under_way_soon(void **state)
{
	struct model m;

	(void)state;
	model_init(&m, 2000, 2000, 500);
	for (int i = 1000; i < m.n; i++)
		hosts[i].net_us = 300000;
	run(&m, 0);
	/* 0.5 s for the near ones, 4 x 0.3 s for the others. */
	assert_in_range(m.now_us, 1700000, 3000000);
}

static void one_that_is_given_up_leaves_its_place(void **state)
{
	struct ssh_pace p;
	int64_t wait_us;

	(void)state;
	memset(hosts, 0, sizeof(hosts));
	ssh_pace_init(&p);
	for (unsigned i = 0; i < SSH_PACE_LEAST; i++) {
		assert_true(ssh_pace_may_begin(&p, 1000, &wait_us));
		ssh_pace_begin(&p, &hosts[i].login, 1000);
	}
	assert_false(ssh_pace_may_begin(&p, 31000, &wait_us));
	assert_int_equal(wait_us, SSH_PACE_STILL_US - 30000);
	ssh_pace_step(&p, &hosts[0].login, 41000);
	assert_false(ssh_pace_may_begin(&p, 101000, &wait_us));
	assert_int_equal(wait_us, SSH_PACE_STILL_US - 60000);
	ssh_pace_drop(&p, &hosts[3].login);
	ssh_pace_drop(&p, &hosts[3].login);
	assert_true(ssh_pace_may_begin(&p, 101000, &wait_us));
	assert_int_equal(p.under_way, SSH_PACE_LEAST - 1);
	/* It is not under way any more, so it does not tell that the others go on. */
	ssh_pace_begin(&p, &hosts[8].login, 101000);
	ssh_pace_step(&p, &hosts[3].login, 139000);
	assert_true(ssh_pace_may_begin(&p, 141000, &wait_us));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_processors_are_waited_for_few_are_under_way),
		cmocka_unit_test(also_where_others_leave_little_of_them),
		cmocka_unit_test(where_the_network_is_waited_for_all_are_soon_under_way),
		cmocka_unit_test(it_need_not_be_learnt_again),
		cmocka_unit_test(where_processors_come_to_be_waited_for_there_are_few_again),
		cmocka_unit_test(hosts_that_hang_hold_nobody_up),
		cmocka_unit_test(nor_do_those_that_all_hang),
		cmocka_unit_test(far_hosts_among_near_ones_slow_neither),
		cmocka_unit_test(far_hosts_after_near_ones_are_all_under_way_soon),
		cmocka_unit_test(one_that_is_given_up_leaves_its_place),
	};

	return cmocka_run_group_tests_name("ssh_pace", tests, NULL, NULL);
}
