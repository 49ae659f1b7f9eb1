# SPDX-License-Identifier: MIT
"""Ansible's callback plugin for exed: tells exed what becomes of each host, as it happens.

It runs inside ansible-playbook, in place of the plugin that prints to the screen. Descriptor 3 is a socket
to exed; both sides send lines. exed's first line is a JSON object: mode (task or play), cap (bytes of each
output that are kept), environment (name of the host variable with each host's EXED_OP). Then:

    to exed                                       from exed
    {"start": HOST}                               go        the host may start the task
    {"host": HOST, "status": ..., ...}            (mode task: the one task's result)
    {"host": HOST, "line": TEXT, "status": ...}   (mode play: a task's result, for people)
    {"over": {HOST: {...}}}                       (mode play: their counts; nothing more is done on them)
    {"stats": {HOST: {...}}}                      (mode play: of all hosts, at the end)

No task starts on a host before exed has said `go`. When exed has gone, this process and all that it
started end at once: somebody else may own the hosts by then.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
import threading

from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: exed_events
    type: stdout
    short_description: tells exed what becomes of each host
    description:
      - Sends lines of JSON to exed, on a descriptor that exed has opened.
"""

CHANNEL = 3
TEXT_MAX = 1000  # bytes of what a failed task says, for people
FACTS_MAX = 4 << 20


def as_bytes(text):
    """What a module printed: Ansible holds bytes that are not UTF-8 as lone surrogates."""
    return str(text).encode("utf-8", "surrogateescape")


def as_text(text):
    return as_bytes(text).decode("utf-8", "replace")


class Channel:
    """The socket to exed: lines out, and a thread that reads what exed says."""

    def __init__(self):
        self.socket = socket.socket(fileno=CHANNEL)
        os.set_inheritable(CHANNEL, False)
        self.pid = os.getpid()
        self.input = self.socket.makefile("rb")
        line = self.input.readline()
        if not line:
            self.end_all()
        self.settings = json.loads(line)
        self.said = threading.Semaphore(0)
        threading.Thread(target=self.read, daemon=True).start()

    def end_all(self):
        """exed has gone."""
        if os.getpid() == self.pid:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def read(self):
        try:
            while self.input.readline():
                self.said.release()
        finally:
            self.end_all()

    def send(self, message):
        if os.getpid() != self.pid:
            return  # a worker's copy
        try:
            line = json.dumps(message, default=str, ensure_ascii=False)
            self.socket.sendall(line.encode("utf-8", "replace") + b"\n")
        except OSError:
            self.end_all()

    def wait(self):
        self.said.acquire()


def queue_manager():
    """Who calls us: it knows which hosts it has given up."""
    frame = sys._getframe(1)
    while frame:
        found = frame.f_locals.get("self")
        if isinstance(found, TaskQueueManager):
            return found
        frame = frame.f_back
    return None


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "exed_events"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.channel = Channel()
        self.settings = self.channel.settings
        self.last_play = None  # the uuid of the playbook's last play
        self.is_last = False  # that one is run
        self.batch = set()  # hosts that were started in this batch of it

    # ---- what starts ----

    def v2_playbook_on_start(self, playbook):
        """Each command on a host carries the id by which exed finds it there."""
        name, plays = self.settings.get("environment"), playbook.get_plays()
        self.last_play = plays[-1]._uuid if plays else None
        for play in plays if name else ():
            play.environment = [{"EXED_OP": "{{ %s | default('') }}" % name}] + list(play.environment or [])

    def v2_playbook_on_play_start(self, play):
        """Of each batch of a play (serial). When there is no other play, the hosts of the former one are done."""
        if self.is_last:
            self.tell_over(self.batch)
        self.batch, self.is_last = set(), play._uuid == self.last_play

    def v2_runner_on_start(self, host, task):
        self.batch.add(host.get_name())
        self.channel.send({"start": host.get_name()})
        self.channel.wait()

    # ---- what ends ----

    def v2_runner_on_ok(self, result, **kwargs):
        self.tell(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.tell(result, "failed", ignored=bool(ignore_errors))

    def v2_runner_on_skipped(self, result):
        self.tell(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self.tell(result, "unreachable", ignored=bool(result._task_fields.get("ignore_unreachable")))

    def tell(self, result, status, ignored=False):
        message = {"host": result._host.get_name(), "status": status}
        if self.settings["mode"] == "play":
            message.update(self.line_of(result, status, ignored))
        else:
            message.update(self.data_of(result._result))
        self.channel.send(message)
        if status in ("failed", "unreachable"):
            self.tell_over([message["host"]], given_up=True)

    def tell_over(self, hosts, given_up=False):
        """With given_up: those of them that Ansible has given up, for good."""
        manager = queue_manager() if self.settings["mode"] == "play" else None
        if not manager:
            return
        lost = set(manager._failed_hosts) | set(manager._unreachable_hosts)
        over = {host: dict(manager._stats.summarize(host), given_up=host in lost) for host in hosts
                if host in lost or not given_up}
        if over:
            self.channel.send({"over": over})

    def line_of(self, result, status, ignored):
        what = self.words_of(result._result) if status in ("failed", "unreachable") else ""
        name = as_text(result._task.get_name())
        word = "ignored" if ignored else status
        return {"ignored": ignored, "line": "%s: %s%s" % (word, name, ": " + what if what else ""), "words": what}

    def words_of(self, data):
        """Why a task failed: its own words, then those of what it ran."""
        for key in ("msg", "stderr", "module_stderr", "stdout", "module_stdout", "reason"):
            text = as_text(data.get(key) or "").strip()
            if text and not (key == "msg" and text == "non-zero return code" and data.get("stderr")):
                return as_text(as_bytes(text)[-TEXT_MAX:].decode("utf-8", "ignore"))
        for item in data.get("results") or ():
            if isinstance(item, dict) and (item.get("failed") or item.get("unreachable")):
                return self.words_of(item)
        return ""

    def data_of(self, data):
        """What the record of a single task holds."""
        found = {"words": self.words_of(data)}
        if isinstance(data.get("rc"), int):
            found["rc"] = data["rc"]
        for key in ("stdout", "stderr"):
            if key in data:
                self.put_output(found, key, as_bytes(data[key]))
        if "ansible_facts" in data and self.settings.get("facts"):
            facts = {k: v for k, v in data["ansible_facts"].items() if not k.startswith("discovered_")}
            if len(json.dumps(facts, default=str)) > FACTS_MAX:
                found["words"] = "its facts are longer than %d bytes" % FACTS_MAX
            else:
                found["facts"] = facts
        return found

    def put_output(self, found, key, whole):
        kept = whole[:self.settings["cap"]]
        if len(whole) > len(kept):
            found[key + "_bytes"] = len(whole)
        found[key] = base64.b64encode(kept).decode("ascii")

    # ---- the end ----

    def v2_playbook_on_stats(self, stats):
        if self.settings["mode"] != "play":
            return
        manager = queue_manager()
        given_up = set(manager._failed_hosts) | set(manager._unreachable_hosts) if manager else set()
        hosts = {}
        for host in set(stats.processed) | given_up:
            hosts[host] = dict(stats.summarize(host), given_up=host in given_up)
        self.channel.send({"stats": hosts})
