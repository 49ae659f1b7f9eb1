# SPDX-License-Identifier: MIT
"""The functions of the job store (lua/store/functions.lua), driven on a real redis-server.

Each test is a node's side of the protocol: create, take, mark, append, end, and what must hold when an
answer is lost, when two nodes want the same, and when redis is killed in the middle.
"""

import json
import os
import random
import sys
import threading
import time
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Redis  # noqa: E402
from exedtest.resp import ReplyError, Resp, encode  # noqa: E402

LIBRARY = os.path.join(ROOT, "lua", "store", "functions.lua")
CHUNK = 500
HOUR = 3600 * 1000000
RECORD, PART = "record", "part"


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def pairs(flat):
    return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}


class Slice:
    """A slice as the functions answer it."""

    def __init__(self, row):
        jid, self.k, self.start, self.end, self.epoch, self.deaths, stop = row
        self.jid, self.stop = text(jid), text(stop)

    @property
    def own(self):
        return (self.jid, self.k, self.epoch)


def rows(indexes, status=1, kind=RECORD):
    """append's rows for these targets."""
    out = []
    for i in indexes:
        entry = '{"index": %d}' % i
        out += [i, kind, status, len(entry), entry]
    return out


class Store:
    """One connection to the store."""

    def __init__(self, redis):
        self.resp = Resp(path=redis.socket)

    def __getattr__(self, name):
        return lambda *args: self.resp("FCALL", "exed_1_" + name, 0, *args)

    def close(self):
        self.resp.close()

    def job(self, jid):
        return pairs(self.get(jid))

    def take_one(self, node):
        return Slice(self.take(*node, 1)[0])

    def entries(self, jid, step=500):
        """All rows of the results stream."""
        out, after = [], 0
        while True:
            page = self.page(jid, after, step, 1 << 20)
            if len(page) == 2:
                return out
            out += page[2:]
            after = out[-1][0]


class StoreTest(unittest.TestCase):
    """A redis-server for the class, empty for each test."""

    @classmethod
    def setUpClass(cls):
        cls.redis = Redis().start()

    @classmethod
    def tearDownClass(cls):
        cls.redis.stop()

    def setUp(self):
        with open(LIBRARY, "rb") as f:
            self.library = f.read()
        self.store = Store(self.redis)
        self.addCleanup(self.store.close)
        self.store.resp("FLUSHALL")
        self.store.resp("FUNCTION", "LOAD", "REPLACE", self.library)
        self.clock = 1700000000000000
        self.node = self.register("n1")

    def register(self, name):
        return (name, self.store.register(name, "0.1"))

    def now(self):
        self.clock += 1000
        return self.clock

    def args(self, names, jid=None, lock="none", size=500, listed=1, priority=0, idem=("", ""),
             max_jobs=10000, max_memory=0, no_match=(), node=None, whole=True, fields=None):
        """The arguments of create, and the jid."""
        jid = jid or str(uuid.uuid4())
        known = len(names) - len(no_match)
        slices = []
        for start in range(0, known, size):
            slices += [start, min(start + size, known)]
        chunks = [json.dumps(names[i:i + CHUNK]) for i in range(0, len(names), CHUNK)]
        unknown = []
        for i in no_match:
            unknown += [i, '{"status": -1}']
        flat = [x for pair in (fields or {"request": "{}"}).items() for x in pair]
        head = [jid, self.now(), *(node or self.node), 1 if whole else 0, len(names), lock, listed, priority,
                *idem, max_jobs, max_memory, len(flat) // 2, *flat]
        if not whole:
            return jid, head + [0, 0, 0], chunks, slices
        return jid, head + [len(slices) // 2, *slices, len(chunks), *chunks, len(unknown) // 2, *unknown]

    def create(self, names, **options):
        jid, args = self.args(names, **options)
        answer = self.store.create(*args)
        self.assertEqual(text(answer[0]), "CREATED")
        return jid

    def finish_slice(self, piece, status=1):
        """Every host of the slice ends with that status, and so does the slice."""
        self.store.append(*piece.own, 0, 0, *rows(range(piece.start, piece.end), status))
        return self.store.slice_end(*piece.own, self.now())

    def run_job(self, names, **options):
        jid = self.create(names, **options)
        self.finish_slice(self.store.take_one(self.node))
        return jid

    def refused(self, word, fn, *args):
        with self.assertRaises(ReplyError) as caught:
            fn(*args)
        self.assertEqual(caught.exception.word, word, str(caught.exception))
        return str(caught.exception)[len(word) + 1:]


class LifeTest(StoreTest):
    def test_a_job_goes_from_create_to_done(self):
        names = ["h%d" % i for i in range(7)]
        jid = self.create(names, fields={"request": '{"a":1}', "operation": "execute"})
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["targets"], job["operation"], job["request"]),
                         ("running", "7", "execute", '{"a":1}'))
        piece = self.store.take_one(self.node)
        self.assertEqual((piece.jid, piece.k, piece.start, piece.end, piece.epoch, piece.deaths, piece.stop),
                         (jid, 0, 0, 7, 1, 0, ""))
        self.assertEqual(self.store.take(*self.node, 5), [])
        self.assertEqual(self.store.mark(*piece.own, 0, 0, 3, 6), 1)
        self.assertEqual(self.store.marks(jid, 0, 0), [0, 7, b"1001001"])
        self.assertEqual(self.store.append(*piece.own, 0, 1, *rows([3, 0])), [2, 2, 24, b"", 0])
        self.assertEqual(self.store.marks(jid, 0, 0), [0, 7, b"2002001"])
        self.store.append(*piece.own, 0, 2, *rows([1, 2, 4, 5, 6], status=5))
        self.assertEqual(self.store.ready()[2:], [1, 0, 0])
        self.assertEqual(self.store.slice_end(*piece.own, self.now()), [0, 0, 0, 1])
        self.assertEqual(self.store.ready()[2:], [1, 1, 0])
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["result"], job["error"], job["c:1"], job["c:5"], job["records"]),
                         ("ended", "0", "", "2", "5", "7"))
        self.assertEqual([e[:5] for e in self.store.entries(jid)],
                         [[1, 3, b"record", 0, 1], [2, 0, b"record", 0, 1], [3, 1, b"record", 0, 5],
                          [4, 2, b"record", 0, 5], [5, 4, b"record", 0, 5], [6, 5, b"record", 0, 5],
                          [7, 6, b"record", 0, 5]])
        self.assertEqual([text(c) for c in self.store.targets(jid, 0, 3)], [json.dumps(names)])

    def test_create_again_answers_as_the_first_time(self):
        jid, args = self.args(["a", "b"], idem=("key", "hash"))
        self.assertEqual(self.store.create(*args), [b"CREATED", jid.encode(), b"running"])
        self.assertEqual(self.store.create(*args), [b"CREATED", jid.encode(), b"running"])
        self.assertEqual(len(self.store.list("all", 0, 10)), 1)
        self.assertEqual(len(self.store.take(*self.node, 10)), 1)

    def test_an_idempotency_key_gives_the_first_jid_or_says_that_the_body_differs(self):
        jid, args = self.args(["a"], idem=("key", "hash"))
        self.store.create(*args)
        _, again = self.args(["a"], idem=("key", "hash"))
        self.assertEqual(self.store.create(*again), [b"REPLAY", jid.encode(), b"running"])
        _, other = self.args(["b"], idem=("key", "other"))
        self.assertEqual(self.refused("MISMATCH", self.store.create, *other), jid)
        self.assertGreater(self.store.resp("TTL", "exed:idem:key"), 86000)

    def test_a_key_is_looked_up_without_a_new_job(self):
        self.assertEqual(self.store.replayed("key", "hash"), b"")
        jid = self.create(["a"], idem=("key", "hash"))
        self.assertEqual(self.store.replayed("key", "hash"), jid.encode())
        self.assertEqual(self.store.replayed("key", "other"), b"")

    def test_a_key_of_a_job_that_may_come_to_nothing_is_no_answer(self):
        jid, head, _, _ = self.args(["a"] * 3000, whole=False, idem=("key", "hash"))
        self.store.create(*head)
        _, again = self.args(["a"], idem=("key", "hash"))
        self.assertEqual(self.refused("ACCEPTING", self.store.replayed, "key", "hash"), jid)
        self.assertEqual(self.refused("ACCEPTING", self.store.create, *again), jid)
        self.store.create_undo(jid)
        self.assertEqual(self.store.replayed("key", "hash"), b"")

    def test_unknown_targets_have_their_record_at_once_and_fail_the_job(self):
        jid = self.create(["a", "b", "x", "y"], no_match=[2, 3])
        self.assertEqual([e[:5] for e in self.store.entries(jid)],
                         [[1, 2, b"record", 0, -1], [2, 3, b"record", 0, -1]])
        self.finish_slice(self.store.take_one(self.node))
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["result"], job["c:-1"]), ("ended", "2", "2"))
        self.assertIn("2 of 4", job["error"])

    def test_a_job_of_unknown_targets_only_ends_at_once_as_failure(self):
        jid = self.create(["x", "y"], no_match=[0, 1])
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["result"], job["records"]), ("ended", "2", "2"))
        self.assertEqual(self.store.ready()[0], 0)

    def test_each_failing_status_makes_a_failure_and_the_others_do_not(self):
        for status, result in ((1, "0"), (5, "0"), (2, "0"), (0, "0"), (3, "2"), (4, "2"), (-1, "2")):
            jid = self.create(["a", "b"])
            piece = self.store.take_one(self.node)
            self.store.append(*piece.own, 0, 0, *rows([0]), *rows([1], status))
            self.store.slice_end(*piece.own, self.now())
            self.assertEqual(self.store.job(jid)["result"], result, status)

    def test_a_target_without_a_record_is_a_failure_that_says_so(self):
        jid = self.create(["a", "b", "c"])
        piece = self.store.take_one(self.node)
        self.store.append(*piece.own, 0, 0, *rows([0]))
        self.store.slice_end(*piece.own, self.now())
        job = self.store.job(jid)
        self.assertEqual((job["result"], job["error"]), ("2", "2 of 3 targets have no record"))

    def test_the_last_of_several_slices_ends_the_job(self):
        jid = self.create(["h%d" % i for i in range(25)], size=10)
        pieces = [Slice(row) for row in self.store.take(*self.node, 10)]
        self.assertEqual([(p.k, p.start, p.end) for p in pieces], [(0, 0, 10), (1, 10, 20), (2, 20, 25)])
        for n, piece in enumerate((pieces[1], pieces[2], pieces[0])):
            self.assertEqual(self.finish_slice(piece)[0], 2 - n)
        self.assertEqual(self.store.slice_end(*pieces[0].own, self.now()), [0, 0, 0])  # sent again
        self.assertEqual(self.store.job(jid)["result"], "0")

    def test_finish_ends_the_job_as_its_owner_says(self):
        jid = self.create(["a"])
        piece = self.store.take_one(self.node)
        self.assertEqual(self.store.finish(*piece.own, self.now(), 2, "gate failed"), [0, 2, 0, 1])
        self.assertEqual(self.store.finish(*piece.own, self.now(), 0, ""), [0, 2, 0])
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["result"], job["error"]), ("ended", "2", "gate failed"))

    def test_effects_have_bits_of_their_own_and_do_not_count_as_outcomes(self):
        jid = self.create(["a", "b"])
        piece = self.store.take_one(self.node)
        self.store.mark(*piece.own, 7, 0)
        self.store.append(*piece.own, 7, 1, *rows([0], status=3))
        self.assertEqual(self.store.marks(jid, 0, 7)[2], b"20")
        self.assertEqual(self.store.marks(jid, 0, 0)[2], b"00")
        self.store.append(*piece.own, 0, 1, *rows([0, 1]))
        self.store.slice_end(*piece.own, self.now())
        job = self.store.job(jid)
        self.assertEqual((job["result"], job["records"], job["effects"]), ("0", "2", "7"))

    def test_effects_of_one_target_each_share_calls_and_bits_by_their_number(self):
        jid = self.create(["a", "b", "c"])
        piece = self.store.take_one(self.node)
        self.store.mark_ops(*piece.own, 5, 1, 9, 2, 70000, 1)
        call = (*piece.own, 5, 1, 5, *rows([1], status=3), 9, *rows([2]))
        self.assertEqual(self.store.append_ops(*call)[:2], [2, 2])
        self.assertEqual(self.store.append_ops(*call)[:2], [0, 2])  # sent again
        self.assertEqual(self.store.append_ops(*piece.own, 5, 2, 9, *rows([2]))[0], 0)  # it has its record
        marks = {n: self.store.marks(jid, 0, n)[2] for n in (5, 9, 70000, 8)}
        self.assertEqual(marks, {5: b"222", 9: b"222", 70000: b"111", 8: b"000"})
        self.assertEqual([e[1:5] for e in self.store.entries(jid)], [[1, b"record", 5, 3], [2, b"record", 9, 1]])
        self.assertEqual(self.store.found(jid, 5, 1)[:2], [1, 3])
        # What one node did so another one settles for itself, and the other way round.
        self.store.append(*piece.own, 70000, 1, *rows([1]))
        self.assertEqual(self.store.marks(jid, 0, 70000)[2], b"121")
        self.assertEqual(self.refused("GAP", self.store.append_ops, *piece.own, 5, 4, 9, *rows([2])), "2")
        job = self.store.job(jid)
        self.assertEqual((job["records"], job["effects"]), ("0", "70000"))

    def test_wrong_arguments_for_effects_of_one_target_are_refused(self):
        jid = self.create(["a", "b"])
        piece = self.store.take_one(self.node)
        for n, index in ((0, 0), (-1, 0), ("x", 0), (1 << 21, 0), (3, 2), (3, -1), (3, "x")):
            self.refused("INVALID", self.store.mark_ops, *piece.own, 2, 1, n, index)
            self.refused("INVALID", self.store.append_ops, *piece.own, 2, 1, 2, *rows([0]),
                         n, index, RECORD, 1, 2, "{}")
        self.refused("INVALID", self.store.mark_ops, *piece.own, 3)
        self.refused("INVALID", self.store.append_ops, *piece.own, 2, 0, 2, *rows([0]))  # not numbered
        self.refused("INVALID", self.store.append_ops, *piece.own, 0, 1, 2, *rows([0]))
        self.refused("INVALID", self.store.append_ops, *piece.own, 2, 1, *rows([0]))
        self.assertEqual(self.store.entries(jid), [])
        self.assertEqual(self.store.marks(jid, 0, 2)[2], b"00")

    def test_a_large_job_is_made_in_pieces_each_of_which_may_be_sent_again(self):
        names = ["h%05d" % i for i in range(5200)]
        jid, head, chunks, slices = self.args(names, whole=False, lock="exclusive")
        for _ in range(2):
            self.assertEqual(text(self.store.create(*head)[2]), "accepting")
        self.refused("GONE", self.store.get, jid)
        self.assertEqual(self.store.list("all", 0, 10), [])
        for at in range(0, len(chunks), 4):
            part = chunks[at:at + 4]
            for _ in range(2):
                self.assertEqual(self.store.create_add(jid, at, len(part), *part, 0), at + len(part))
        self.refused("INVALID", self.store.create_add, jid, 3, 1, chunks[3], 0)
        self.refused("INVALID", self.store.create_claim, jid, *names[:2001])
        for at in range(0, len(names), 2000):
            for _ in range(2):
                self.store.create_claim(jid, *names[at:at + 2000])
        self.assertEqual([[text(x) for x in row] for row in self.store.accepting()],
                         [[jid, "n1", str(self.node[1])]])
        self.assertEqual(self.store.take(*self.node, 10), [])
        for _ in range(2):
            self.assertEqual(text(self.store.create_commit(jid, self.now(), len(slices) // 2, *slices)[2]),
                             "running")
        self.assertEqual(self.store.accepting(), [])
        pieces = [Slice(row) for row in self.store.take(*self.node, 100)]
        self.assertEqual([p.start for p in pieces], list(range(0, 5200, 500)))
        more = [self.finish_slice(piece)[2] for piece in pieces][-1]
        calls = 0
        while more:
            more, calls = self.store.release(jid), calls + 1
        self.assertEqual(calls, 2)
        self.assertEqual(self.store.resp("HLEN", "exed:leases"), 0)
        self.assertEqual(self.store.job(jid)["result"], "0")

    def test_an_undone_large_job_leaves_nothing(self):
        names = ["h%05d" % i for i in range(3000)]
        jid, head, chunks, _ = self.args(names, whole=False, lock="exclusive", idem=("k", "h"))
        self.store.create(*head)
        self.store.create_add(jid, 0, 4, *chunks[:4], 0)
        self.store.create_claim(jid, *names[:2000])
        self.store.create_undo(jid)
        # Its hosts are free at once, before its keys are.
        self.run_job(names[:3], lock="exclusive")
        while self.store.remove(jid):
            pass
        self.assertEqual(self.store.resp("HLEN", "exed:leases"), 0)
        self.assertEqual(self.store.resp("KEYS", "*%s*" % jid), [])
        self.assertEqual(self.store.resp("EXISTS", "exed:idem:k"), 0)

    def test_wrong_arguments_are_refused_and_change_nothing(self):
        jid, good = self.args(["a", "b"])
        before = self.store.resp("DBSIZE")
        for at, value in ((0, "no jid"), (1, "soon"), (5, 0), (5, "1e3"), (6, "some"), (8, 11), (11, -1)):
            bad = list(good)
            bad[at] = value
            self.refused("INVALID", self.store.create, *bad)
        self.refused("INVALID", self.store.create, *good[:-1])
        self.refused("STALE", self.store.create, *good[:3], 99, *good[4:])
        self.assertEqual(self.store.resp("DBSIZE"), before)
        self.store.create(*good)
        piece = self.store.take_one(self.node)
        for index in (2, -1, "x", 4294967295):
            self.refused("INVALID", self.store.mark, *piece.own, 0, index)
            self.refused("INVALID", self.store.append, *piece.own, 0, 1, index, RECORD, 1, 2, "{}")
        self.refused("INVALID", self.store.append, *piece.own, 0, 1, 0, RECORD, 9, 2, "{}")
        self.refused("INVALID", self.store.append, *piece.own, 0, 1, 0, "word", 1, 2, "{}")
        self.refused("INVALID", self.store.append, *piece.own, 0, 1, 0, RECORD, 1, 2)
        self.assertEqual(self.store.entries(jid), [])


class GroupTest(StoreTest):
    """Jobs that are made in one call: each as if it had come alone, after those before it."""

    def create_some(self, *jobs):
        flat = [x for args in jobs for x in (len(args), *args)]
        return [text(one) if isinstance(one, bytes) else [text(word) for word in one]
                for one in self.store.create_some(len(jobs), *flat)]

    def visible(self):
        return {text(jid) for jid in self.store.list("all", 0, 100)}

    def test_all_are_made(self):
        made = [self.args(["a"]), self.args(["b", "c", "d"], size=2, lock="exclusive"),
                self.args(["x"], no_match=[0]), self.args(["e"], listed=0, priority=3)]
        self.assertEqual(self.create_some(*(args for _, args in made)),
                         [["CREATED", jid, "ended" if i == 2 else "running"] for i, (jid, _) in enumerate(made)])
        jids = [jid for jid, _ in made]
        self.assertEqual(self.visible(), set(jids))
        self.assertEqual([text(jid) for jid in self.store.list("listed", 0, 10)], jids[:3])
        self.assertEqual(sorted((Slice(row).jid, Slice(row).k) for row in self.store.take(*self.node, 10)),
                         sorted([(jids[0], 0), (jids[1], 0), (jids[1], 1), (jids[3], 0)]))
        self.assertEqual(self.store.job(jids[2])["c:-1"], "1")

    def test_each_is_judged_by_itself(self):
        first, plain = self.args(["a"])
        holder, holds = self.args(["x"], lock="exclusive")
        _, clashes = self.args(["x", "y"], lock="exclusive")
        keyed, key = self.args(["a"], idem=("key", "hash"))
        _, again = self.args(["a"], idem=("key", "hash"))
        _, other = self.args(["b"], idem=("key", "other"))
        _, stale = self.args(["a"], node=(self.node[0], 99))
        _, full = self.args(["a"], max_memory=1)
        last, good = self.args(["y"], lock="exclusive")
        answers = self.create_some(plain, plain, holds, clashes, key, again, other, stale, full,
                                   ["no jid", *good[1:]], good[:-1], good)
        self.assertEqual(answers[:3] + answers[4:6] + answers[-1:],
                         [["CREATED", first, "running"], ["CREATED", first, "running"],
                          ["CREATED", holder, "running"], ["CREATED", keyed, "running"],
                          ["REPLAY", keyed, "running"], ["CREATED", last, "running"]])
        self.assertEqual(answers[3], "CONFLICT " + json.dumps({"x": [holder]}, separators=(",", ":")))
        self.assertEqual([one.split()[0] for one in answers[6:11]],
                         ["MISMATCH", "STALE", "FULL", "INVALID", "INVALID"])
        self.assertEqual(self.visible(), {first, holder, keyed, last})
        self.assertEqual(sorted(Slice(row).jid for row in self.store.take(*self.node, 10)),
                         sorted([first, holder, keyed, last]))

    def test_one_that_fails_halfway_leaves_the_others_alone(self):
        self.store.resp("SET", "exed:job:dead", "no hash")
        answers = self.create_some(*(self.args(["a"], jid=jid)[1] for jid in ("aa", "dead", "bb")))
        self.assertEqual([answers[0], answers[2]], [["CREATED", "aa", "running"], ["CREATED", "bb", "running"]])
        self.assertIn("WRONGTYPE", answers[1])
        self.assertEqual(self.visible(), {"aa", "bb"})

    def test_the_bound_of_jobs_counts_those_of_the_call(self):
        made = [self.args(["a"], max_jobs=2) for _ in range(3)]
        answers = self.create_some(*(args for _, args in made))
        self.assertEqual([one[0] for one in answers[:2]], ["CREATED", "CREATED"])
        self.assertIn("FULL the store holds 2 jobs and none has ended", answers[2])
        self.assertEqual(self.visible(), {jid for jid, _ in made[:2]})

    def test_one_that_ends_at_once_makes_room_for_the_next(self):
        made = [self.args(["x"], no_match=[0], max_jobs=1) for _ in range(3)]
        self.assertEqual([one[0] for one in self.create_some(*(args for _, args in made))], ["CREATED"] * 3)
        self.assertEqual(self.visible(), {made[2][0]})
        self.assertEqual(self.store.resp("EXISTS", "exed:job:" + made[0][0]), 0)

    def test_those_of_many_hosts_are_left_for_another_call(self):
        made = [self.args(["h%d.%d" % (j, i) for i in range(300)], lock="shared") for j in range(4)]
        answers = self.create_some(*(args for _, args in made))
        self.assertEqual([one[1] for one in answers], [jid for jid, _ in made[:2]])
        self.assertEqual(self.visible(), {jid for jid, _ in made[:2]})

    def test_lengths_that_do_not_fit_make_none(self):
        _, args = self.args(["a"])
        for bad in ([], [0], [1], ["x", *args], [1, len(args) + 1, *args], [1, len(args) - 1, *args],
                    [2, len(args), *args], [1, len(args), *args, 7]):
            self.refused("INVALID", self.store.create_some, *bad)
        self.assertEqual(self.visible(), set())


class OnceTest(StoreTest):
    def test_a_record_is_there_once_however_often_it_is_sent(self):
        jid = self.create(["a", "b", "c"])
        piece = self.store.take_one(self.node)
        self.assertEqual(self.store.append(*piece.own, 0, 0, *rows([0, 1]))[0], 2)
        self.assertEqual(self.store.append(*piece.own, 0, 0, *rows([0, 1, 2, 2], status=3))[0], 1)
        self.assertEqual([e[:2] for e in self.store.entries(jid)], [[1, 0], [2, 1], [3, 2]])
        self.assertEqual(self.store.job(jid)["records"], "3")

    def test_a_numbered_call_sent_again_adds_no_part_twice(self):
        jid = self.create(["a"])
        piece = self.store.take_one(self.node)
        part = [0, PART, 0, 5, "1 0\nhello"]
        for _ in range(3):
            last = self.store.append(*piece.own, 0, 1, *part)
            self.assertEqual(last[1:3], [1, 5])
        self.assertEqual(self.store.append(*piece.own, 0, 2, *part)[0], 1)
        self.assertEqual(len(self.store.entries(jid)), 2)

    def test_a_gap_in_the_numbers_is_refused_with_the_last_one(self):
        self.create(["a"])
        piece = self.store.take_one(self.node)
        self.store.append(*piece.own, 0, 1, *rows([0], kind="announce"))
        self.assertEqual(self.refused("GAP", self.store.append, *piece.own, 0, 3, *rows([0])), "1")
        self.store.append(*piece.own, 0, 2, *rows([0]))

    def test_an_old_owner_is_refused_everywhere(self):
        self.create(["a", "b"])
        old = self.store.take_one(self.node)
        self.store.mark(*old.own, 0, 0)
        again = self.register("n1")
        new = Slice(self.store.reclaim(*again, 10)[0])
        self.assertEqual(new.epoch, old.epoch + 1)
        for call in ((self.store.mark, *old.own, 0, 1), (self.store.append, *old.own, 0, 1, *rows([1])),
                     (self.store.mark_ops, *old.own, 2, 1),
                     (self.store.append_ops, *old.own, 2, 1, 2, *rows([1])),
                     (self.store.slice_end, *old.own, self.now()), (self.store.hand_back, *old.own),
                     (self.store.finish, *old.own, self.now(), 0, "")):
            self.refused("STALE", *call)
        self.refused("STALE", self.store.take, *self.node, 1)
        self.refused("STALE", self.store.beat, *self.node, 0)
        self.assertEqual(self.store.marks(new.jid, 0, 0)[2], b"10")
        self.store.append(*new.own, 0, 1, *rows([0, 1]))  # its numbers begin anew
        self.assertEqual(self.store.slice_end(*new.own, self.now())[:2], [0, 0])

    def test_an_ended_slice_takes_no_more(self):
        self.create(["a", "b"])
        piece = self.store.take_one(self.node)
        self.store.append(*piece.own, 0, 1, *rows([0]))
        self.store.slice_end(*piece.own, self.now())
        self.refused("ENDED", self.store.mark, *piece.own, 0, 1)
        self.refused("ENDED", self.store.append, *piece.own, 0, 2, *rows([1]))
        self.assertEqual(self.store.append(*piece.own, 0, 1, *rows([0]))[0], 0)  # an answer that was lost

    def test_two_nodes_never_take_the_same_slice(self):
        total = 60
        for _ in range(total):
            self.create(["h%d" % i for i in range(20)], size=5)
        taken, errors = [], []

        def worker(name):
            store = Store(self.redis)
            try:
                node = (name, store.register(name, "0"))
                while True:
                    found = [Slice(row) for row in store.take(*node, 3)]
                    if not found:
                        return
                    for piece in found:
                        store.mark(*piece.own, 0, *range(piece.start, piece.end))
                        store.append(*piece.own, 0, 1, *rows(range(piece.start, piece.end)))
                        store.slice_end(*piece.own, self.clock)
                        taken.append((piece.jid, piece.k))
            except Exception as error:  # pylint: disable=broad-except
                errors.append(error)
            finally:
                store.close()

        threads = [threading.Thread(target=worker, args=("w%d" % i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
        self.assertEqual(len(taken), total * 4)
        self.assertEqual(len(set(taken)), total * 4)
        for jid in self.store.list("all", 0, 1000):
            job = self.store.job(text(jid))
            self.assertEqual((job["state"], job["result"], job["records"]), ("ended", "0", "20"))
            ids = [e[0] for e in self.store.entries(text(jid))]
            self.assertEqual(ids, list(range(1, 21)))

    def test_two_writers_of_one_job_make_dense_ids_without_doubles(self):
        jid = self.create(["h%d" % i for i in range(2000)], size=1000)
        pieces = [Slice(row) for row in self.store.take(*self.node, 2)]
        errors = []

        def writer(piece):
            store = Store(self.redis)
            try:
                for seq, at in enumerate(range(piece.start, piece.end, 10), 1):
                    batch = rows(range(at, at + 10))
                    for _ in range(1 + seq % 2):
                        store.append(*piece.own, 0, seq, at, PART, 0, 3, "1 0\nabc", *batch)
                store.slice_end(*piece.own, self.clock)
            except Exception as error:  # pylint: disable=broad-except
                errors.append(error)
            finally:
                store.close()

        threads = [threading.Thread(target=writer, args=(piece,)) for piece in pieces]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
        entries = self.store.entries(jid)
        self.assertEqual([e[0] for e in entries], list(range(1, 2201)))
        self.assertEqual(sorted(e[1] for e in entries if e[2] == b"record"), list(range(2000)))
        self.assertEqual(self.store.job(jid)["result"], "0")


class OwnerTest(StoreTest):
    def test_a_small_job_passes_the_later_slices_of_a_big_one(self):
        big = self.create(["h%d" % i for i in range(2000)], size=500)
        self.store.take_one(self.node)
        small = self.create(["a"])
        order = [Slice(row).jid for row in self.store.take(*self.node, 10)]
        self.assertEqual(order, [small, big, big, big])

    def test_jobs_of_one_size_go_first_in_first_out_and_none_starves(self):
        waiting = [self.create(["a"]) for _ in range(3)]
        order = []
        for _ in range(30):
            order.append(self.store.take_one(self.node).jid)
            waiting.append(self.create(["a"]))
        self.assertLess(max(order.index(jid) for jid in waiting[:3]), 6)

    def test_priority_comes_before_size(self):
        low = self.create(["a"], priority=-1)
        high = self.create(["h%d" % i for i in range(2000)], priority=3, size=1000)
        order = [Slice(row).jid for row in self.store.take(*self.node, 10)]
        self.assertEqual(order, [high, high, low])

    def test_take_over_needs_owner_epoch_and_beat_unchanged(self):
        jid = self.create(["a", "b"])
        piece = self.store.take_one(self.node)
        other = self.register("n2")
        beat = self.store.beat(*self.node, 1)
        seen = (jid, 0, "n1", piece.epoch, beat)
        self.store.beat(*self.node, 1)
        self.refused("STALE", self.store.take_over, *other, *seen)
        seen = (jid, 0, "n1", piece.epoch, beat + 1)
        self.refused("STALE", self.store.take_over, *other, jid, 0, "n3", piece.epoch, beat + 1)
        self.refused("STALE", self.store.take_over, *other, jid, 0, "n1", piece.epoch + 1, beat + 1)
        new = Slice(self.store.take_over(*other, *seen))
        self.assertEqual((new.epoch, new.deaths), (piece.epoch + 1, 1))
        self.refused("STALE", self.store.take_over, *self.register("n3"), *seen)
        self.refused("STALE", self.store.append, *piece.own, 0, 1, *rows([0]))
        self.assertEqual(self.store.owned("n1", 10), [])
        self.assertEqual(len(self.store.owned("n2", 10)), 1)
        self.finish_slice(new)
        self.refused("ENDED", self.store.take_over, *other, jid, 0, "n2", new.epoch, 1)

    def test_deaths_count_only_without_a_new_record_between(self):
        self.create(["a", "b", "c"])
        piece = self.store.take_one(self.node)
        deaths = []
        for n in range(5):
            if n == 2:
                self.store.append(*piece.own, 0, 1, *rows([0]))
            piece = Slice(self.store.reclaim(*self.register("n1"), 10)[0])
            deaths.append(piece.deaths)
        self.assertEqual(deaths, [1, 2, 1, 2, 3])

    def test_reclaim_gives_each_slice_once_and_none_of_this_life(self):
        for _ in range(3):
            self.create(["a"])
        old = [Slice(row) for row in self.store.take(*self.node, 2)]
        node = self.register("n1")
        mine = self.store.take_one(node)
        found = [Slice(row) for _ in range(3) for row in self.store.reclaim(*node, 1)]
        self.assertEqual({p.jid for p in found}, {p.jid for p in old})
        self.assertEqual(self.store.reclaim(*node, 10), [])
        self.finish_slice(mine)

    def test_a_slice_handed_back_is_taken_by_another_and_is_no_death(self):
        jid = self.create(["a", "b"])
        piece = self.store.take_one(self.node)
        self.store.append(*piece.own, 0, 1, *rows([0]))
        self.store.hand_back(*piece.own)
        self.refused("STALE", self.store.append, *piece.own, 0, 2, *rows([1]))
        other = self.register("n2")
        new = self.store.take_one(other)
        self.assertEqual((new.jid, new.deaths, self.store.marks(jid, 0, 0)[2]), (jid, 0, b"20"))
        self.assertEqual(self.store.owned("n1", 10), [])

    def test_nodes_beat_are_listed_and_forgotten_only_when_still_and_idle(self):
        self.store.beat(*self.node, 3)
        (row,) = self.store.nodes()
        node = pairs(row[1:])
        self.assertEqual((row[0], node["running"], node["version"]), (b"n1", "3", "0.1"))
        self.create(["a"])
        piece = self.store.take_one(self.node)
        self.refused("STALE", self.store.forget, "n1", int(node["beat"]) - 1)
        self.refused("RUNNING", self.store.forget, "n1", node["beat"])
        self.finish_slice(piece)
        self.store.forget("n1", node["beat"])
        self.assertEqual(self.store.nodes(), [])
        self.assertEqual(self.register("n1")[1], 2)  # never the same number again


class LeaseTest(StoreTest):
    def held(self):
        flat = self.store.leases(0, 1000)[1:]
        return {text(flat[i]): (text(flat[i + 1]), text(flat[i + 3])) for i in range(0, len(flat), 4)}

    def test_all_or_none_and_the_conflict_names_the_holders(self):
        first = self.create(["a", "b"], lock="exclusive")
        second = self.create(["c"], lock="shared")
        _, args = self.args(["b", "c", "d"], lock="exclusive")
        answer = json.loads(self.refused("CONFLICT", self.store.create, *args))
        self.assertEqual(answer, {"b": [first], "c": [second]})
        self.assertEqual(set(self.held()), {"a", "b", "c"})
        _, args = self.args(["a", "d"], lock="shared")
        self.refused("CONFLICT", self.store.create, *args)
        self.create(["a", "b", "c"], lock="none")

    def test_shared_leases_share_and_keep_exclusive_out_until_the_last_ends(self):
        jids = [self.create(["a"], lock="shared") for _ in range(3)]
        mode, holders = self.held()["a"]
        self.assertEqual((mode, set(holders.split(","))), ("shared", set(jids)))
        _, args = self.args(["a"], lock="exclusive")
        for _ in range(3):
            self.refused("CONFLICT", self.store.create, *args)
            self.finish_slice(self.store.take_one(self.node))
        self.store.create(*args)
        self.assertEqual(self.held()["a"], ("exclusive", args[0]))

    def test_unknown_targets_take_no_lease(self):
        self.create(["a", "x"], lock="exclusive", no_match=[1])
        self.assertEqual(set(self.held()), {"a"})

    def test_leases_end_with_the_job(self):
        self.run_job(["h%d" % i for i in range(900)], lock="exclusive", size=900)
        self.assertEqual(self.store.resp("HLEN", "exed:leases"), 0)

    def test_a_large_claim_conflicts_chunk_by_chunk(self):
        holder = self.create(["h02500"], lock="exclusive")
        names = ["h%05d" % i for i in range(3000)]
        jid, head, _, _ = self.args(names, whole=False, lock="shared")
        self.store.create(*head)
        self.assertEqual(self.store.create_claim(jid, *names[:2000]), 2000)
        answer = json.loads(self.refused("CONFLICT", self.store.create_claim, jid, *names[2000:]))
        self.assertEqual(answer, {"h02500": [holder]})
        _, other = self.args(["h00001"], lock="exclusive")
        self.assertIn(jid, self.refused("CONFLICT", self.store.create, *other))
        self.store.create_undo(jid)
        self.store.create(*other)


class StopTest(StoreTest):
    def test_cancel_stops_starts_and_hands_out_what_nobody_took(self):
        jid = self.create(["h%d" % i for i in range(30)], size=10)
        running = self.store.take_one(self.node)
        self.store.mark(*running.own, 0, 0)
        api = self.register("api")
        answer = self.store.cancel(jid, self.now(), "cancelled", *api)
        pieces = [Slice(row) for row in answer[1:]]
        self.assertEqual([(p.k, p.stop) for p in pieces], [(1, "cancelled"), (2, "cancelled")])
        self.assertEqual(self.store.cancel(jid, self.now(), "again", *api), [b"stopping"])
        self.assertEqual(self.refused("STOPPED", self.store.mark, *running.own, 0, 1), "cancelled")
        self.assertEqual(self.store.marks(jid, 0, 0)[2], b"1000000000")
        last = self.store.append(*running.own, 0, 1, *rows(range(10), status=2))
        self.assertEqual(last[3], b"cancelled")
        self.store.slice_end(*running.own, self.now())
        for piece in pieces:
            self.finish_slice(piece, status=2)
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["result"], job["error"], job["c:2"]),
                         ("ended", "2", "cancelled", "30"))
        self.refused("ENDED", self.store.cancel, jid, self.now(), "late", *api)
        self.refused("GONE", self.store.cancel, str(uuid.uuid4()), self.now(), "x", *api)

    def test_whoever_takes_a_slice_later_sees_the_stop(self):
        jid = self.create(["h%d" % i for i in range(20)], size=10)
        piece = self.store.take_one(self.node)
        self.store.cancel(jid, self.now(), "max_failed", *self.node)
        new = Slice(self.store.reclaim(*self.register("n1"), 10)[0])
        self.assertEqual(new.stop, "max_failed")
        self.assertEqual(piece.stop, "")

    def test_wakes_are_published(self):
        with Resp(path=self.redis.socket) as ears:
            ears("PSUBSCRIBE", "exed:*")
            jid = self.create(["a"])
            piece = self.store.take_one(self.node)
            self.store.append(*piece.own, 0, 1, *rows([0]))
            self.store.cancel(jid, self.now(), "cancelled", *self.node)
            self.store.slice_end(*piece.own, self.now())
            heard = [tuple(map(text, ears.reply()[2:])) for _ in range(4)]
        self.assertEqual(heard, [("exed:ready", jid), ("exed:wake:" + jid, "1"),
                                 ("exed:control", "cancel " + jid), ("exed:wake:" + jid, "end")])


class KeepTest(StoreTest):
    def left(self, jid):
        return self.store.resp("KEYS", "*%s*" % jid)

    def test_a_running_job_cannot_be_removed_and_an_ended_one_leaves_nothing(self):
        jid = self.create(["h%d" % i for i in range(20)], size=5, lock="exclusive")
        self.refused("RUNNING", self.store.remove, jid)
        self.refused("RUNNING", self.store.release, jid)
        for row in self.store.take(*self.node, 10):
            piece = Slice(row)
            self.store.mark(*piece.own, 3, piece.start)
            self.store.mark_ops(*piece.own, 4, piece.start)
            self.store.append_ops(*piece.own, 4, 1, 4, *rows([piece.start]))
            self.store.append(*piece.own, 0, 1, piece.start, PART, 0, 3, "1 0\nabc")
            self.finish_slice(piece)
        self.assertEqual(self.store.remove(jid), 0)
        self.assertEqual(self.left(jid), [])
        self.refused("GONE", self.store.remove, jid)
        self.refused("GONE", self.store.get, jid)
        self.refused("GONE", self.store.page, jid, 0, 10, 1000)
        self.assertEqual(self.store.list("all", 0, 10), [])

    def test_a_job_with_very_many_effects_is_removed_in_pieces(self):
        jid = self.create(["a"])
        piece = self.store.take_one(self.node)
        self.store.mark(*piece.own, 2500, 0)
        self.finish_slice(piece)
        calls = 1
        while self.store.remove(jid):
            calls += 1
            self.refused("GONE", self.store.get, jid)
        self.assertEqual(calls, 3)
        self.assertEqual(self.left(jid), [])

    def test_a_source_that_is_there_is_kept_longer_and_another_is_asked_for(self):
        sha = uuid.uuid4().hex
        self.assertEqual(self.store.source_keep(sha, 1000), 0)
        self.assertEqual(self.store.source_get(sha), b"")
        self.store.source_put(sha, "text", 10)
        self.assertEqual(self.store.source_keep(sha, 1000), 1)
        self.assertGreater(self.store.resp("TTL", "exed:src:" + sha), 900)
        self.assertEqual(self.store.source_get(sha), b"text")
        self.refused("INVALID", self.store.source_keep, "no sha", 1000)

    def test_jobs_are_listed_by_start_and_sync_jobs_only_with_all(self):
        listed = [self.create(["a"]) for _ in range(3)]
        hidden = self.create(["a"], listed=0)
        self.assertEqual([text(j) for j in self.store.list("listed", 0, 10)], listed)
        self.assertEqual([text(j) for j in self.store.list("all", 0, 10)], listed + [hidden])
        self.assertEqual([text(j) for j in self.store.list("listed", 1, 1)], listed[1:2])

    def test_pages_are_bounded_by_count_and_bytes_and_go_on_where_they_ended(self):
        jid = self.create(["h%d" % i for i in range(100)])
        piece = self.store.take_one(self.node)
        big = "x" * 1000
        for i in range(100):
            self.store.append(*piece.own, 0, i + 1, i, RECORD, 1, 1000, big)
        self.assertEqual(len(self.store.page(jid, 0, 7, 1 << 20)) - 2, 7)
        self.assertEqual(len(self.store.page(jid, 0, 100, 10000)) - 2, 10)
        self.assertEqual(len(self.store.page(jid, 0, 100, 1)) - 2, 1)  # always something
        self.assertEqual([e[0] for e in self.store.entries(jid, step=13)], list(range(1, 101)))
        state, last = self.store.page(jid, 100, 10, 1000)
        self.assertEqual((state, last), (b"running", 100))

    def test_records_that_came_together_are_rows_of_their_own_wherever_a_page_ends(self):
        jid = self.create(["h%d" % i for i in range(300)])
        piece = self.store.take_one(self.node)
        self.store.append(*piece.own, 0, 1, *rows(range(150)), 150, PART, 0, 3, "0 0\nout", *rows(range(150, 200)))
        self.store.append(*piece.own, 0, 2, *rows(range(190, 300), 3))  # ten of them are there
        want = [(i + 1 + (i >= 150), i, text(RECORD)) for i in range(300)]
        want.insert(150, (151, 150, PART))
        for step in (1, 2, 63, 64, 65, 300):
            got = self.store.entries(jid, step)
            self.assertEqual([(row[0], row[1], text(row[2])) for row in got], want, step)
            self.assertEqual([row[4] for row in got], [1] * 150 + [0] + [1] * 50 + [3] * 100)
            self.assertTrue(all(text(row[5]) == '{"index": %d}' % row[1] for row in got if row[0] != 151))
        self.assertEqual(self.store.entry(jid, 151), b"0 0\nout")
        self.assertEqual(self.store.resp("XLEN", "exed:job:%s:results" % jid), 3 + 1 + 1 + 2)  # of 64 at most

    def test_results_of_a_job_from_before_an_upgrade_are_read_and_go_on(self):
        jid = self.create(["a", "b", "c"])
        piece = self.store.take_one(self.node)
        self.store.append(*piece.own, 0, 1, *rows([0, 1]), 2, PART, 0, 3, "0 0\nout")
        want = self.store.entries(jid)
        results = "exed:job:%s:results" % jid
        self.store.resp("DEL", results)
        for at, head, entry in ((1, "0 record 0 1", '{"index": 0}'), (2, "1 record 0 1", '{"index": 1}'),
                                (3, "2 part 0 0", "0 0\nout")):
            self.store.resp("XADD", results, "%d-0" % at, "h", head, "e", entry)
        self.assertEqual(self.store.entries(jid), want)
        self.assertEqual(self.store.entries(jid, step=1), want)
        self.assertEqual(self.store.entry(jid, 3), b"0 0\nout")
        self.store.append(*piece.own, 0, 2, *rows([2]))
        self.assertEqual([row[1] for row in self.store.entries(jid)], [0, 1, 2, 2])

    def test_long_records_are_not_put_together(self):
        jid = self.create(["h%d" % i for i in range(8)])
        piece = self.store.take_one(self.node)
        long = "x" * 10000
        self.store.append(*piece.own, 0, 1, *[field for i in range(8) for field in (i, RECORD, 1, 10000, long)])
        self.assertEqual(self.store.resp("XLEN", "exed:job:%s:results" % jid), 8)
        self.assertEqual(len(self.store.page(jid, 0, 100, 25000)) - 2, 3)

    def test_bits_are_set_in_any_order_near_each_other_and_far(self):
        chance = random.Random(7)
        jid = self.create(["h%d" % i for i in range(300)])
        piece, marked = self.store.take_one(self.node), set()
        for size in (1, 1, 2, 7, 40, 100):
            some = chance.sample(range(300), size)
            self.store.mark(*piece.own, 0, *some)
            marked.update(some)
            self.assertEqual(text(self.store.marks(jid, piece.k, 0)[2]),
                             "".join("1" if i in marked else "0" for i in range(300)))
        far = [1 << 20, 1, 2047, 2056, 2048, 900000]
        self.store.mark_ops(*piece.own, *[field for n in far for field in (n, 5)])
        for n in sorted(set(far) | {n + by for n in far for by in (-1, 1)} - {0, (1 << 20) + 1}):
            self.assertEqual(text(self.store.marks(jid, piece.k, n, 5, 6)[2]), "1" if n in far else "0", n)

    def test_parts_are_found_by_target_and_an_earlier_try_is_void(self):
        jid = self.create(["a", "b"])
        piece = self.store.take_one(self.node)
        put = lambda seq, index, data: self.store.append(*piece.own, 0, seq, index, PART, 0, 3, data)
        put(1, 0, "0 0\nold")
        put(2, 1, "0 0\nbbb")
        put(3, 0, "0 0\nnew")
        put(4, 0, "1 0\nerr")
        put(5, 0, "0 3\nend")
        self.assertEqual(self.store.parts(jid, 0, 0), [3, 0, 5, 0, 4, 1])
        self.assertEqual(self.store.entry(jid, 5), b"0 3\nend")
        bare = self.store.page(jid, 0, 10, 1 << 20, 1)
        self.assertEqual({row[5] for row in bare[2:]}, {b""})
        self.refused("GONE", self.store.entry, jid, 99)

    def test_the_oldest_ended_job_makes_room_and_running_ones_do_not(self):
        first = self.run_job(["a"], max_jobs=2)
        second = self.create(["a"], max_jobs=2)
        third = self.create(["a"], max_jobs=2)
        self.assertEqual([text(j) for j in self.store.list("listed", 0, 10)], [second, third])
        self.assertEqual(self.left(first), [])
        _, args = self.args(["a"], max_jobs=2)
        self.assertIn("none has ended", self.refused("FULL", self.store.create, *args))

    def test_a_store_over_its_memory_takes_no_new_job(self):
        _, args = self.args(["a"], max_memory=1)
        self.assertIn("bytes", self.refused("FULL", self.store.create, *args))

    def test_a_full_redis_ends_and_removes_jobs_but_takes_none(self):
        jid = self.create(["a", "b"], lock="exclusive")
        piece = self.store.take_one(self.node)
        self.store.resp("CONFIG", "SET", "maxmemory", "1")
        self.addCleanup(self.store.resp, "CONFIG", "SET", "maxmemory", "0")
        _, args = self.args(["c"])
        self.refused("OOM", self.store.create, *args)
        self.store.beat(*self.node, 1)
        self.store.mark(*piece.own, 0, 0, 1)
        self.store.append(*piece.own, 0, 1, *rows([0, 1]))
        self.store.slice_end(*piece.own, self.now())
        self.assertEqual(len(self.store.entries(jid)), 2)
        self.assertEqual(self.store.resp("HLEN", "exed:leases"), 0)
        self.assertEqual(self.store.remove(jid), 0)

    def test_the_sweep_takes_what_is_old_and_leaves_what_runs(self):
        old = [self.run_job(["a"]) for _ in range(40)]
        running = self.create(["a"])
        ttl = HOUR
        self.assertEqual(self.store.sweep(self.now(), ttl, 1000, ttl, 10000), [0, 0])
        later, removed = self.clock + 2 * HOUR, 0
        while True:
            count, more = self.store.sweep(later, ttl, 1000, ttl, 10000)
            removed += count
            if not more:
                break
        self.assertEqual(removed, 40)
        self.assertEqual([text(j) for j in self.store.list("all", 0, 100)], [running])
        self.assertEqual([self.left(jid) for jid in old], [[]] * 40)

    def test_the_sweep_keeps_the_last_sync_jobs_and_the_most_jobs(self):
        sync = [self.run_job(["a"], listed=0) for _ in range(5)]
        jobs = [self.run_job(["a"]) for _ in range(5)]
        while self.store.sweep(self.now(), HOUR, 2, HOUR, 3)[1]:
            pass
        self.assertEqual([text(j) for j in self.store.list("all", 0, 100)], sync[3:] + jobs[2:])
        while self.store.sweep(self.now() + 10, HOUR, 2, 1, 3)[1]:
            pass
        self.assertEqual([text(j) for j in self.store.list("all", 0, 100)], jobs[2:])

    def test_the_sweep_goes_on_with_what_was_begun(self):
        jid = self.create(["a"])
        piece = self.store.take_one(self.node)
        self.store.mark(*piece.own, 2500, 0)
        self.finish_slice(piece)
        self.assertEqual(self.store.remove(jid), 1)
        while self.store.sweep(self.now(), HOUR, 1000, HOUR, 10000)[1]:
            pass
        self.assertEqual(self.left(jid), [])

    def test_the_clock_of_redis_does_not_matter_to_owners(self):
        # Nothing that decides who owns a slice has an expiry: only the Idempotency-Key does.
        self.create(["a"], lock="exclusive", idem=("key", "hash"))
        self.store.take_one(self.node)
        self.store.beat(*self.node, 1)
        timed = [key for key in self.store.resp("KEYS", "*") if self.store.resp("TTL", key) != -1]
        self.assertEqual(timed, [b"exed:idem:key"])


class KillTest(StoreTest):
    """Its own server, because it is killed."""

    def test_10000_appends_over_a_kill_of_redis_are_there_once_each(self):
        total, batch = 10000, 20
        jid, head, chunks, slices = self.args(["h%05d" % i for i in range(total)], whole=False, size=2000)
        self.store.create(*head)
        for at in range(0, len(chunks), 4):
            self.store.create_add(jid, at, len(chunks[at:at + 4]), *chunks[at:at + 4], 0)
        self.store.create_commit(jid, self.now(), len(slices) // 2, *slices)
        pieces = [Slice(row) for row in self.store.take(*self.node, 10)]
        calls = []
        for piece in pieces:
            for seq, at in enumerate(range(piece.start, piece.end, batch), 1):
                calls.append(("FCALL", "exed_1_append", 0, *piece.own, 0, seq,
                              at, PART, 0, 3, "1 0\nabc", *rows(range(at, at + batch))))
        self.store.close()
        done, kills = 0, 0
        while done < len(calls):
            done, killed = self.send_some(calls, done, kill_after=len(calls) // 4 * (kills + 1))
            kills += killed
        self.assertGreaterEqual(kills, 3)
        self.store = Store(self.redis)
        self.addCleanup(self.store.close)
        entries = self.store.entries(jid)
        self.assertEqual([e[0] for e in entries], list(range(1, total + total // batch + 1)))
        self.assertEqual(sorted(e[1] for e in entries if e[2] == b"record"), list(range(total)))
        self.assertEqual(sum(e[2] == b"part" for e in entries), total // batch)
        for piece in pieces:
            self.store.slice_end(*piece.own, self.now())
        job = self.store.job(jid)
        self.assertEqual((job["state"], job["result"], job["records"]), ("ended", "0", str(total)))

    def send_some(self, calls, done, kill_after):
        """Pipelines calls from `done` on; kills redis once that many are acknowledged. All that was not
        acknowledged is sent again by the next round."""
        resp = Resp(path=self.redis.socket)
        killer = None
        try:
            data = b"".join(encode(*call) for call in calls[done:])
            threading.Thread(target=self.pour, args=(resp.sock, data), daemon=True).start()
            while done < len(calls):
                resp.reply()
                done += 1
                if done == kill_after and done < len(calls) and not killer:
                    killer = self.redis.pid
                    os.kill(killer, 9)
        except (ConnectionError, OSError):
            self.assertIsNotNone(killer)
        finally:
            resp.close()
        if killer:
            self.redis.kill()
            self.redis.start()
        return done, 1 if killer else 0

    @staticmethod
    def pour(sock, data):
        try:
            sock.sendall(data)
        except OSError:
            pass  # the server was killed

    def test_what_was_acknowledged_is_there_after_a_kill_and_counters_go_on(self):
        jids = [self.create(["a"], lock="exclusive" if i == 0 else "none") for i in range(50)]
        piece = self.store.take_one(self.node)
        self.redis.kill()
        self.redis.start()
        self.store = Store(self.redis)
        self.addCleanup(self.store.close)
        self.assertEqual([text(j) for j in self.store.list("all", 0, 100)], jids)
        self.node = self.register("n1")
        self.assertEqual(self.node[1], 2)
        self.assertEqual(Slice(self.store.reclaim(*self.node, 10)[0]).jid, piece.jid)
        self.refused("CONFLICT", self.store.create, *self.args(["a"], lock="exclusive")[1])


if __name__ == "__main__":
    unittest.main()
