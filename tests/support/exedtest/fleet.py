# SPDX-License-Identifier: MIT
"""The simulated fleet (../fleet) as a fixture: hosts sim0001.. at 127.1.x.y."""

import ctypes
import getpass
import http.client
import ipaddress
import json
import os
import re
import select
import socket
import struct
import subprocess

from .procs import ROOT, Child, Fixture, SLOW

PROGRAM = os.path.join(ROOT, os.environ.get("EXED_FLEET", "build/support/fleet"))

_SO_ATTACH_FILTER = 26


class Fleet(Fixture):
    """n hosts sim0001..simN at consecutive addresses from 127.1.0.1 on, one free port.

    rules: {name or network: behaviour}, e.g. {"sim0003": "hang", "127.1.2.0/24": "reset"}; the behaviour
    "refuse" (only by name) gives the host a port at which nothing listens. flags: further ones of the
    program, e.g. ["-rtt", "20"]. Attributes: port, user, key, known_hosts, inventory, names, address[name].
    """

    def __init__(self, n=100, rules=None, flags=(), first="127.1.0.1", lifetime=600, group="sim"):
        super().__init__()
        base = int(ipaddress.IPv4Address(first))
        width = max(4, len(str(n)))
        self.names = ["%s%0*d" % (group, width, i + 1) for i in range(n)]
        self.address = {name: str(ipaddress.IPv4Address(base + i)) for i, name in enumerate(self.names)}
        self.group, self.rules, self.flags, self.lifetime = group, dict(rules or {}), list(flags), lifetime
        self.user = getpass.getuser()
        self.child = self.port = self.stats_port = self._refusing = None
        self.key, self.known_hosts = self.path("client_ecdsa"), self.path("known_hosts")

    @staticmethod
    def can_blackhole():
        """Whether this user may give a socket a packet filter, which the behaviour blackhole needs."""
        code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xffff))  # let all through
        with socket.socket() as s:
            try:
                s.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                             struct.pack("HL", 1, ctypes.addressof(code)))
            except OSError:
                return False
        return True

    def start(self):
        assert os.access(PROGRAM, os.X_OK), "%s is missing: run `make support`" % PROGRAM
        refuse = {name for name, what in self.rules.items() if what == "refuse"}
        command = [PROGRAM, "-dir", self.dir, "-known-hosts", self.known_hosts, "-hosts", "127.*",
                   "-stats", "127.0.0.1:0", "-for", str(self.lifetime), *self.flags]
        for where, what in self.rules.items():
            if where not in refuse:
                command += ["-rule", "%s=%s" % (self.address.get(where, where), what)]
        self.child = Child(command, self.path("fleet.log"), stdout=subprocess.PIPE)
        ready, _, _ = select.select([self.child.popen.stdout], [], [], 10 * SLOW)
        line = self.child.popen.stdout.readline().decode() if ready else ""
        found = re.match(r"ready port=(\d+) stats=\S+:(\d+)", line)
        if not found:
            self.child.popen.kill()
            self.child.popen.wait()
            raise AssertionError("the fleet did not start: %r\n%s" % (line, self.child.output()))
        self.port, self.stats_port = int(found[1]), int(found[2])
        # Bound but not listening: connecting is refused, and nobody else gets the port meanwhile.
        self._refusing = socket.socket()
        self._refusing.bind(("0.0.0.0", 0))
        ports = {name: self._refusing.getsockname()[1] for name in refuse}
        lines = ["%s ansible_host=%s ansible_port=%d" % (
            name, self.address[name], ports.get(name, self.port)) for name in self.names]
        self.inventory = self.write("hosts.ini", (
            "[%s]\n%s\n\n[%s:vars]\nansible_user=%s\nansible_ssh_private_key_file=%s\n") % (
                self.group, "\n".join(lines), self.group, self.user, self.key))
        return self

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.stats_port, timeout=10 * SLOW)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, "%s %s: %d %s" % (method, path, answer.status, text)
            return text
        finally:
            connection.close()

    def stats(self, brief=False):
        """The counters as a dict; brief leaves out those by address and by op id."""
        return json.loads(self._ask("GET", "/stats?brief=1" if brief else "/stats"))

    def reset(self):
        """Sets the counters to 0."""
        self._ask("POST", "/reset", "")

    def rule(self, *rules):
        """Adds rules while it runs: "sim0003=hang", "127.1.2.0/24=ok"; "clear" forgets all before it."""
        lines = []
        for text in rules:
            where, _, what = text.partition("=")
            lines.append("%s=%s" % (self.address.get(where, where), what) if what else where)
        self._ask("POST", "/rules", "\n".join(lines))

    def drop(self, where="127.0.0.0/8"):
        """Resets the live connections of a host or network; returns how many there were."""
        return int(self._ask("POST", "/drop?net=" + self.address.get(where, where), ""))

    def stop(self):
        if self._refusing:
            self._refusing.close()
        if self.child:
            self.child.end()
            self.child = None
        self.forget()
