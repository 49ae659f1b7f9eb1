# SPDX-License-Identifier: MIT
"""A private redis-server as an outside Redis for exed, and a small client to look into any Redis."""

import os
import shutil
import signal
import socket

from .procs import Child, Fixture, SLOW, free_port, wait_until


class RedisError(Exception):
    """An error reply."""


class RedisClient:
    """Speaks RESP over a TCP port or a unix socket: client("SET", "a", "b"). Replies are bytes, int, list."""

    def __init__(self, where, password=None, limit=5.0):
        """where: a port of 127.0.0.1, or the path of a unix socket."""
        family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(limit * SLOW)
        try:
            self.socket.connect(("127.0.0.1", where) if isinstance(where, int) else where)
            self.file = self.socket.makefile("rb")
            if password:
                self("AUTH", password)
        except BaseException:
            self.close()
            raise

    def __call__(self, *words):
        out = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(out))
        return self._reply()

    def _reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection to redis was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        n = int(rest)
        if n < 0:
            return None
        if kind == b"$":
            return self.file.read(n + 2)[:-2]
        return [self._reply() for _ in range(n)]

    def close(self):
        if hasattr(self, "file"):
            self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class Redis(Fixture):
    """A redis-server on a free port of 127.0.0.1 and on a unix socket.

    options: {name: value} of its configuration; the default is the durability that exed asks for.
    Attributes: port, socket (path), url (redis://...), unix_url, pid.
    """

    def __init__(self, password=None, **options):
        super().__init__()
        self.port, self.socket, self.password = free_port(), self.path("redis.sock"), password
        self.options = {"appendonly": "yes", "appendfsync": "always", "save": "",
                        "maxmemory-policy": "noeviction"}
        self.options.update({name.replace("_", "-"): value for name, value in options.items()})
        secret = ":%s@" % password if password else ""
        self.url = "redis://%s127.0.0.1:%d/0" % (secret, self.port)
        self.unix_url = "unix://" + self.socket
        self.child = None

    @property
    def pid(self):
        return self.child.pid

    def start(self):
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed"
        lines = ["port %d" % self.port, "bind 127.0.0.1", "unixsocket " + self.socket,
                 "unixsocketperm 700", "dir " + self.dir, "daemonize no"]
        lines += ['%s "%s"' % (name, value) for name, value in self.options.items()]
        if self.password:
            lines.append("requirepass " + self.password)
        self.child = Child([program, self.write("redis.conf", "\n".join(lines) + "\n", 0o600)],
                           self.path("redis.log"), cwd=self.dir)

        def ready():
            self.child.check()
            try:
                with self.client() as client:
                    return client("PING") == b"PONG"
            except RedisError:
                return False  # still loading

        wait_until(ready, 10, "redis-server answers")
        return self

    def client(self):
        """A new RedisClient; close it, or use it in a `with`."""
        return RedisClient(self.port, self.password)

    def ask(self, *words):
        """One command on a connection of its own."""
        with self.client() as client:
            return client(*words)

    def kill(self, sig=signal.SIGKILL):
        """Ends it with the signal and waits for that; start() brings it back with its data."""
        self.child.end(sig)
        self.child = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def pause(self):
        """Stops it from answering (SIGSTOP) until resume."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def stop(self):
        if self.child:
            self.child.popen.send_signal(signal.SIGCONT)
            self.child.end(signal.SIGKILL)
            self.child = None
        self.forget()
