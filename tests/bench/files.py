# SPDX-License-Identifier: MIT
"""Measurements of files that are sent to real sshd hosts, beside scp and rsync."""

import os
import shutil

from meter import Cpu, Ran
from table import Bar, Row

from exedtest import Exed, Sshd

TASK = """
return {
  summary = "sends a file", args = { mb = { "string", required = true } },
  run = function(job)
    require("exed.each").window(job.hosts, { size = #job.hosts }, function(host)
      host:copy { src = job.args.mb, dest = "%s/" .. host.name .. "/sent" }
    end)
  end,
}
"""
MB = 1 << 20


class Sending:
    """An exed with real hosts and a task that sends them a file of so many megabytes."""

    def __init__(self, hosts, mb):
        self.hosts, self.mb = hosts, mb
        self.sshd = Sshd(hosts)
        self.exed = Exed(self.sshd, {"runner": {}})
        modules = self.exed.path("modules")
        self.exed.conf["runner"]["modules"] = modules
        self.file = os.path.join(modules, "tasks", "files", "send", str(mb))
        os.makedirs(os.path.dirname(self.file))
        with open(os.path.join(modules, "tasks", "send.lua"), "w", encoding="utf-8") as f:
            f.write(TASK % self.sshd.path("hosts"))
        with open(self.file, "wb") as f:
            for _ in range(mb):
                f.write(os.urandom(MB))

    def __enter__(self):
        self.sshd.start()
        self.exed.start(limit=30)
        self.exed.wait_job(self.exed.execute(["all"], "true"))
        return self

    def __exit__(self, *error):
        self.exed.stop()
        self.sshd.stop()

    def wipe(self):
        for host in self.sshd.hosts:
            path = os.path.join(host.dir, "sent")
            if os.path.exists(path):
                os.remove(path)

    def send(self):
        """CPU seconds of exed and its redis for all hosts, which must have the whole file."""
        with Cpu(self.exed.pids()) as cpu:
            body = {"targets": "all", "taskname": "send", "taskopts": {"mb": str(self.mb)}}
            jid = self.exed.post("/tasks", body).body["jid"]
            for _ in self.exed.follow(jid, timeout=600):  # asking again and again would cost more than the file
                pass
        job = self.exed.job(jid, False)
        assert job["state"] == 0, job["error"]
        for host in self.sshd.hosts:
            assert os.path.getsize(os.path.join(host.dir, "sent")) == self.mb * MB
        self.wipe()
        return cpu.s

    def peer(self, *words):
        """The same by another program, once for each host."""
        spent = 0.0
        for host in self.sshd.hosts:
            place = "%s@%s:%s/sent" % (self.sshd.user, host.address, host.dir)
            spent += Ran([word.replace("TO", place) for word in words]).check().cpu_s
        self.wipe()
        return spent


def run_send(bench, row):
    with Sending(4, 50) as sending:
        ssh = ["-o", "Port=%d" % sending.sshd.port, "-i", sending.sshd.key, "-o", "BatchMode=yes",
               "-o", "IdentityAgent=none", "-o", "UserKnownHostsFile=" + sending.sshd.known_hosts]
        peers = {"scp": ["scp", "-q", *ssh, sending.file, "TO"],
                 "rsync": ["rsync", "-e", " ".join(["ssh", *ssh]), sending.file, "TO"]}
        for _ in range(bench.rounds):
            row.add("exed", sending.send() * 1000 / (4 * 50))
            for name, words in peers.items():
                if not shutil.which(name):
                    row.skip(name, "%s is not installed" % name)
                    continue
                row.add(name, sending.peer(*words) * 1000 / (4 * 50))


def run_memory(bench, row):
    hosts, mb = (10, 20) if bench.short else (50, 100)
    with Sending(hosts, mb) as sending:
        idle = sending.exed.rss_kb()
        sending.send()
        row.add("exed", (sending.exed.peak_rss_kb() - idle) / 1024)
        row.note("%d MB to %d hosts at once, %.1f MB at rest" % (mb, hosts, idle / 1024))


ROWS = [
    Row("send", "a file, CPU of a megabyte", "ms", run_send, [Bar("scp", 1.5, 1.0), Bar("rsync", 1.0)]),
    Row("send_memory", "files, memory over rest", "MB", run_memory, [Bar(None, 40, 10)], short=True),
]
