# SPDX-License-Identifier: MIT
"""Figures without a bar: times to the first answers, I/O threads, followers, Lua."""

import os
import selectors
import socket
import statistics
import threading
import time
import uuid

from exedtest import BUILD, Exed, Fleet, Redis, wait_until
from exedtest.resp import Resp

from hosts import Job, node
from meter import Cpu, Ran
from table import Row
from web import Load, Servers, need_wrk


def first_answers(bench, row):
    """From a POST to its 201, and to the first record at a follower, of a job on one warm host."""
    with Fleet(1000) as fleet, node(fleet, keep=300) as exed:
        exed.wait_job(exed.execute(["all"], "true"), 60)
        accepted, told = [], []
        for _ in range(40):
            began = time.monotonic()
            jid = exed.execute(["sim0001"], "true")
            accepted.append(time.monotonic() - began)
            exed.records(jid)
            told.append(time.monotonic() - began)
        row.add("exed", statistics.median(accepted) * 1000)
        row.add("to its record, followed", statistics.median(told) * 1000)


def threads(bench, row):
    n = 1000
    with Fleet(n, flags=["-procs", "2"]) as fleet:
        for _ in range(2):
            for count in (1, 2):
                conf = {"ssh": {"agent": "none", "window": 256, "keep": 0}, "log": {"access_log": "none"},
                        "runtime": {"io_threads": count}}
                with Exed(fleet, conf) as exed:
                    exed.wait_job(exed.execute(["sim0001"], "true"))
                    job = Job(exed, fleet, connects=n)
                    row.add("exed" if count == 2 else "with 1 I/O thread", job.cpu_s * 1000 / n)
                    row.note("%d I/O threads: %.2f s wall for %d hosts" % (count, job.wall_s, n))


STARTED_WITH = 100000


def _fill(exed, jobs):
    """Puts so many jobs into exed's own store, as its calls would: each is over, with a record of its one target."""
    model = exed.submit("/ping", {"targets": "sim0001"})
    exed.wait_job(model)
    with open(os.path.join(exed.state, "redis.password"), encoding="utf-8") as f:
        client = Resp(os.path.join(exed.state, "redis.sock"), password=f.read().strip(), timeout=60)
    with client:
        flat = client("HGETALL", "exed:job:" + model)
        job = dict(zip((name.decode() for name in flat[::2]), flat[1::2]))
        fields = []
        for name in ("operation", "args", "request", "startat", "who"):
            fields += [name, job[name]]
        incarnation = client("FCALL", "exed_1_register", 0, "bench", "")
        record = '{"status":-1,"error":"no such host"}'
        for first in range(0, jobs, 500):
            for reply in client.pipeline([
                    ["FCALL", "exed_1_create", 0, uuid.uuid4(), int(time.time() * 1e6), "bench",
                     incarnation, 1, 1, "none", 1, 0, "", "", 0, 0, len(fields) // 2, *fields, 0,
                     1, '["sim0001"]', 1, 0, record] for _ in range(min(500, jobs - first))]):
                assert reply[2] == b"ended", reply
        assert client("ZCARD", "exed:jobs") >= jobs


def start_up(bench, row):
    """Until GET /healthz answers 200, the private redis-server included: with no job, and with many."""
    with Fleet(10) as fleet:
        for jobs in (0, STARTED_WITH):
            conf = {"ssh": {"agent": "none"}, "log": {"access_log": "none"},
                    "store": {"max_jobs": 2 * STARTED_WITH, "memory": "4g"}}
            with Exed(fleet, conf) as exed:
                if jobs:
                    _fill(exed, jobs)
                for _ in range(3):
                    exed.term()
                    began = time.monotonic()
                    exed.start(170)
                    row.add("with {:,} jobs".format(jobs) if jobs else "exed", time.monotonic() - began)
    row.note("exed: an empty store; its redis-server is started, and reads the jobs, in that time")


def _follow_all(exed, jid, count, done):
    """`count` followers on sockets, read by one thread until all have the whole stream."""
    chosen, left = selectors.DefaultSelector(), count
    ask = "GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (jid, exed.port)
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", exed.port), 30)
        s.sendall(ask.encode())
        chosen.register(s, selectors.EVENT_READ, [b""])
    while left:
        events = chosen.select(60)
        assert events, "the followers hear nothing"
        for key, _ in events:
            data = key.fileobj.recv(262144)
            key.data[0] = (key.data[0] + data)[-7:]
            if not data or key.data[0].endswith(b"\r\n0\r\n\r\n"):
                assert data, "a stream was cut"
                chosen.unregister(key.fileobj)
                key.fileobj.close()
                left -= 1
    done.append(count)


def followers(bench, row):
    n, counts = 200, (1, 200, 2000)
    with Fleet(n) as fleet, node(fleet, keep=300, window=20) as exed:
        exed.wait_job(exed.execute(["all"], "true"), 60)
        for count in counts:
            done = []
            jid = exed.execute(["all"], "sleep 0.2")
            with Cpu([exed.pid]) as cpu:
                reader = threading.Thread(target=_follow_all, args=(exed, jid, count, done))
                reader.start()
                reader.join()
            assert done == [count], done
            row.add("exed" if count == counts[-1] else "%d followers" % count, cpu.s * 1e6 / (n * count))
        row.note("exed: %d followers of a job of %d records; the job itself is in the figure" % (counts[-1], n))


FIBERS = """
local fiber, timer = require "exed.fiber", require "exed.timer"
local began = os.clock()
for _ = 1, 100 do
  for _ = 1, 1000 do fiber.spawn("f", function() end) end
  timer.sleep(0)
end
timer.sleep(0)
print((os.clock() - began) * 1e6 / 100000)
"""


def fiber(bench, row):
    with Redis() as place:  # for its directory
        path = place.write("fibers.lua", FIBERS)
        for _ in range(bench.rounds):
            row.add("exed", float(Ran([os.path.join(BUILD, "exed-run"), path]).check().output))


HANDLER = """
return {
  type = "handler", path = "/empty", dialect = "exed",
  methods = { GET = { summary = "nothing", run = function() return 200, {} end } },
}
"""


def empty_handler(bench, row):
    if not need_wrk(row):
        return
    with Servers(row) as s:
        where = s.exed.path("modules", "handlers", "exed")
        os.makedirs(where, mode=0o755)
        s.exed.write("modules/handlers/exed/empty.lua", HANDLER)
        s.exed.conf["runner"]["modules"] = s.exed.path("modules")
        s.restart("api")
        wait_until(lambda: s.exed.get("/empty").status == 200, 10, "the handler is there")
        for _ in range(bench.rounds):
            row.add("exed", Load(s.exed_url("/empty"), [s.exed.pid]).per_cpu_s)
            if s.nginx:
                row.add("nginx", Load(s.nginx.url("/plain"), [s.nginx.pid]).per_cpu_s)


TASK = 'return { summary = "nothing", run = function() end }\n'


def task(bench, row):
    """CPU of a whole job of a task that does nothing: its process, its journal, its end."""
    n = 40
    with Fleet(1) as fleet:
        exed = node(fleet)
        os.makedirs(exed.path("modules", "tasks"), mode=0o755)
        exed.write("modules/tasks/nothing.lua", TASK)
        exed.conf.setdefault("runner", {})["modules"] = exed.path("modules")
        with exed:
            body = {"taskname": "nothing", "targets": "sim0001"}
            exed.wait_job(exed.submit("/tasks", body))
            for _ in range(2):
                with Cpu(exed.pids()) as cpu:
                    began = time.monotonic()
                    for _ in range(n):
                        exed.wait_job(exed.submit("/tasks", body))
                    wall = time.monotonic() - began
                row.add("exed", cpu.s * 1000 / n)
                row.add("wall", wall * 1000 / n)


ROWS = [
    Row("first", "POST until 201, one warm host", "ms wall", first_answers),
    Row("threads", "cold, two I/O threads against one", "ms CPU a host", threads),
    Row("start", "start-up until the first answer", "s wall", start_up),
    Row("followers", "a record to a follower", "us CPU", followers),
    Row("fiber", "a fiber made, run and ended", "us CPU", fiber),
    Row("empty", "an empty handler, beside nginx with Lua", "requests a CPU second", empty_handler, better="more"),
    Row("task", "a job of a task that does nothing", "ms CPU", task),
]
