# SPDX-License-Identifier: MIT
"""Requests a second: exed's API beside nginx with Lua, both over the same Redis. What is compared is requests
for a second of CPU, of the server and its Redis together."""

import json
import os
import re
import shutil
import time

from exedtest import Child, Exed, Fleet, Redis, free_port, wait_until
from exedtest.procs import Fixture

from meter import Cpu, Ran
from table import Bar, Row

MODULES = "/usr/lib/nginx/modules"
SECONDS = 4

CONF = """
load_module %(modules)s/ndk_http_module.so;
load_module %(modules)s/ngx_http_lua_module.so;
daemon off;
master_process off;
worker_processes 1;
pid %(dir)s/nginx.pid;
error_log %(dir)s/error.log warn;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path %(dir)s/body;
  proxy_temp_path %(dir)s/proxy;
  fastcgi_temp_path %(dir)s/fastcgi;
  uwsgi_temp_path %(dir)s/uwsgi;
  scgi_temp_path %(dir)s/scgi;
  init_by_lua_block { number = 0 }
  server {
    listen 127.0.0.1:%(port)d backlog=4096;
    default_type application/json;
    location = /plain { content_by_lua_block { ngx.say('["sim0001"]') } }
    location = /get {
      content_by_lua_block {
        local redis = require("nginx.redis"):new()
        assert(redis:connect("unix:%(socket)s"))
        ngx.say((redis:hget("bench", "job")))
        redis:set_keepalive(60000, 2000)
      }
    }
    location = /set {
      content_by_lua_block {
        ngx.req.read_body()
        local redis = require("nginx.redis"):new()
        assert(redis:connect("unix:%(socket)s"))
        number = number + 1
        assert(redis:set("bench:" .. number, ngx.req.get_body_data()))
        redis:set_keepalive(60000, 2000)
        ngx.status = 201
        ngx.say('{"jid":"' .. number .. '"}')
      }
    }
  }
}
"""


class Nginx(Fixture):
    """One process of nginx with Lua that asks the Redis."""

    def __init__(self, redis):
        super().__init__()
        self.port, self.redis, self.child = free_port(), redis, None

    @staticmethod
    def missing():
        if not shutil.which("nginx"):
            return "nginx is not installed"
        if not os.path.exists(MODULES + "/ngx_http_lua_module.so"):
            return "nginx's Lua module is not installed"
        if not os.path.exists("/usr/share/lua/5.1/nginx/redis.lua"):
            return "lua-nginx-redis is not installed"
        return None

    @property
    def pid(self):
        return self.child.pid

    def start(self):
        conf = self.write("nginx.conf", CONF % {
            "modules": MODULES, "dir": self.dir, "port": self.port, "socket": self.redis.socket})
        self.child = Child(["nginx", "-p", self.dir, "-c", conf, "-e", self.path("error.log")],
                           self.path("nginx.log"))

        def ready():
            self.child.check()
            return Ran(["wrk", "-t1", "-c1", "-d1s", self.url("/plain")]).code == 0

        wait_until(ready, 10, "nginx answers")
        return self

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def stop(self):
        if self.child:
            self.child.end()
            self.child = None
        self.forget()


class Load:
    """wrk for some seconds on a URL: requests, and how many of them for a second of CPU of these processes.

    stored: says how many requests have left something in the store. These are then what is counted: when wrk
    ends, it leaves as many requests without waiting for their answer as it has connections, and they cost as
    much as any other.
    """

    def __init__(self, url, pids, connections=50, script=None, seconds=SECONDS, stored=None):
        command = ["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "--timeout", "20s"]
        before = stored() if stored else 0
        with Cpu(pids) as cpu:
            ran = Ran(command + (["-s", script] if script else []) + [url]).check()
            done = stands_still(stored) - before if stored else 0
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", ran.output)
        errors = re.search(r"Socket errors: (.*)", ran.output)
        assert not bad and not errors, ran.output
        self.requests = int(re.search(r"(\d+) requests in", ran.output)[1])
        assert self.requests > 100, ran.output
        self.rate = float(re.search(r"Requests/sec:\s*([\d.]+)", ran.output)[1])
        assert not stored or done >= self.requests, "%d stored of %d" % (done, self.requests)
        self.per_cpu_s, self.each = (done or self.requests) / cpu.s, cpu.each


def stands_still(count):
    """What count() says when it has said the same for half a second."""
    last, now, since = None, count(), time.monotonic()
    while now != last or time.monotonic() - since < 0.5:
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.1)
        now = count()
    return now


class Servers:
    """An exed that answers and runs nothing but what is asked at first, and nginx, over one Redis."""

    def __init__(self, row):
        self.redis = Redis().start()
        self.fleet = Fleet(10).start()
        self.exed = Exed(self.fleet, {
            "runner": {"redis_url": self.redis.unix_url}, "log": {"access_log": "none"},
            "store": {"max_jobs": 10000000, "memory": "4g"}, "ssh": {"agent": "none"}}).start()
        self.jid = self.exed.execute(["sim0001"], "true")
        self.job = self.exed.wait_job(self.jid)
        why = Nginx.missing()
        self.nginx = None if why else Nginx(self.redis).start()
        if why:
            row.skip("nginx", why)

    def restart(self, role):
        self.exed.term()
        self.exed.conf["runner"]["role"] = role
        self.exed.start()

    def exed_url(self, path):
        return "http://127.0.0.1:%d%s" % (self.exed.port, path)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for each in (self.nginx, self.exed, self.fleet, self.redis):
            if each:
                each.stop()


def need_wrk(row):
    if not shutil.which("wrk"):
        row.skip("exed", "wrk is not installed")
        return False
    return True


def note_rates(row, who, load):
    row.note("%s: %s requests a second, 1 process; CPU %s" % (
        who, "{:,.0f}".format(load.rate), " + ".join("%.2f" % s for s in load.each.values())))


def get_job(bench, row):
    if not need_wrk(row):
        return
    with Servers(row) as s:
        text = json.dumps(s.exed.job(s.jid, outputs=False))
        s.redis.ask("HSET", "bench", "job", text)
        _compare(bench, row, s, "/jobs/" + s.jid, "/get")


def get_target(bench, row):
    if need_wrk(row):
        with Servers(row) as s:
            _compare(bench, row, s, "/target?pattern=sim0001", "/plain", 1000)


def _compare(bench, row, s, path, other, connections=50):
    for n in range(bench.rounds):
        load = Load(s.exed_url(path), [s.exed.pid, s.redis.pid], connections)
        row.add("exed", load.per_cpu_s)
        if n == 0:
            note_rates(row, "exed", load)
        if s.nginx:
            load = Load(s.nginx.url(other), [s.nginx.pid, s.redis.pid], connections)
            row.add("nginx", load.per_cpu_s)
            if n == 0:
                note_rates(row, "nginx", load)


def post_ping(bench, row):
    """Jobs are only accepted: nobody runs them, so that nothing but the way to the 201 is measured."""
    if not need_wrk(row):
        return
    body = json.dumps({"targets": "sim0001"})
    with Servers(row) as s:
        s.restart("api")
        script = s.exed.write("post.lua", "wrk.method = 'POST'\nwrk.body = '%s'\n"
                              "wrk.headers['Content-Type'] = 'application/json'\n" % body)
        for n in range(bench.rounds):
            load = Load(s.exed_url("/ping"), [s.exed.pid, s.redis.pid], 1000, script,
                        stored=lambda: s.redis.ask("ZCARD", "exed:jobs"))
            row.add("exed", load.per_cpu_s)
            if n == 0:
                note_rates(row, "exed", load)
            if s.nginx:
                load = Load(s.nginx.url("/set"), [s.nginx.pid, s.redis.pid], 1000, script,
                            stored=lambda: s.redis.ask("DBSIZE"))
                row.add("nginx", load.per_cpu_s)
                if n == 0:
                    note_rates(row, "nginx", load)


ROWS = [
    Row("get_job", "GET /jobs/JID, beside a hash's field", "requests a CPU second", get_job,
        [Bar("nginx", 0.7, 1.0)], "more"),
    Row("post", "POST /ping until 201, stored, 1,000 connections, beside SET", "requests a CPU second",
        post_ping, [Bar("nginx", 0.3, 0.5)], "more"),
    Row("get_target", "GET /target, 1,000 connections, beside a constant", "requests a CPU second", get_target,
        better="more"),
]
