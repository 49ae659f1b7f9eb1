# SPDX-License-Identifier: MIT
"""A small Redis client for tests: RESP2 over a unix socket or TCP, blocking, with a time limit."""
import socket


class ReplyError(Exception):
    """An error reply; .word is its first word."""

    def __init__(self, text):
        super().__init__(text)
        self.word = text.split(" ", 1)[0]


class Resp:
    """One connection. Replies: str for status, bytes for strings, int, None, list; errors are raised."""

    def __init__(self, path=None, host="127.0.0.1", port=None, password=None, timeout=10.0):
        if path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(path or (host, port))
            self.file = self.sock.makefile("rb")
            if password:
                self("AUTH", password)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the connection; may be called twice."""
        if getattr(self, "file", None):
            self.file.close()
        self.sock.close()

    def __call__(self, *args):
        """One command and its reply."""
        self.send(*args)
        return self.reply()

    def send(self, *args):
        """Sends one command without reading its reply, for pipelines."""
        self.sock.sendall(encode(*args))

    def pipeline(self, commands):
        """Sends all commands, then reads all replies; an error reply is returned, not raised."""
        self.sock.sendall(b"".join(encode(*c) for c in commands))
        replies = []
        for _ in commands:
            try:
                replies.append(self.reply())
            except ReplyError as error:
                replies.append(error)
        return replies

    def reply(self):
        """Reads one reply."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise ReplyError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self._string(int(rest))
        if kind == b"*":
            return self._array(int(rest))
        raise ConnectionError("not RESP: %r" % line)

    def _string(self, size):
        if size < 0:
            return None
        data = self.file.read(size + 2)
        if len(data) != size + 2:
            raise ConnectionError("redis closed the connection")
        return data[:-2]

    def _array(self, size):
        if size < 0:
            return None
        items = []
        for _ in range(size):
            try:
                items.append(self.reply())
            except ReplyError as error:
                items.append(error)
        return items


def encode(*args):
    """The bytes of one command; numbers and text are made bytes."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)
