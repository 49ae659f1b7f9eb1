# SPDX-License-Identifier: MIT
"""Clients that follow a job in each form there is, over plain sockets: chunked, NDJSON, SSE, WebSocket."""

import asyncio
import base64
import collections
import hashlib
import os
import struct

FORMS = ("ndjson", "sse", "ws")  # those that show ids
LIMIT = 1 << 26
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPT = {"ndjson": "application/x-ndjson", "sse": "text/event-stream"}

# kind: job, entry, beat or end. id: None where there is none. data: the JSON text's bytes.
Item = collections.namedtuple("Item", "kind id data")


class Cut(Exception):
    """The stream ended before its end."""


class Refused(Exception):
    """The answer is no stream: status, headers (lower case) and body."""

    def __init__(self, status, headers, body):
        super().__init__("%d %r" % (status, body[:200]))
        self.status, self.headers, self.body = status, headers, body


def _split(line):
    """{"id":7,"entry":{...}} -> Item, with the bytes of the inner object as they came."""
    if line.startswith(b'{"job":'):
        return Item("job", None, line[7:-1])
    head, comma, rest = line.partition(b",")
    assert head.startswith(b'{"id":'), line[:100]
    if not comma:
        return Item("beat", int(head[6:-1]), b"")
    kind = rest.split(b'"')[1].decode()
    assert kind in ("entry", "end"), line[:100]
    return Item(kind, int(head[6:]), rest[len(kind) + 3:-1])


class Follow:
    """One connection. next() gives an Item, None at a good end; Cut when it is cut."""

    def __init__(self, port, jid, form, after=None, headers=None, query=None):
        self.port, self.jid, self.form, self.after = port, jid, form, after
        self.headers, self.query = dict(headers or {}), query
        self.code = self.reason = None  # of a WebSocket's close frame
        self.pings = 0
        self._rest, self._lines = b"", collections.deque()
        self._reader = self._writer = None

    async def __aenter__(self):
        try:
            await self.open()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *error):
        self.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    def close(self):
        if self._writer:
            self._writer.close()

    # ---- the request ----

    def _request(self):
        query = ["follow=1"] if self.form != "ws" else []
        headers = {"Host": "127.0.0.1:%d" % self.port}
        if self.after is not None and self.form == "sse":
            headers["Last-Event-ID"] = str(self.after)
        elif self.after is not None:
            query.append("from=%d" % self.after)
        if self.form == "ws":
            self.key = base64.b64encode(os.urandom(16))
            headers.update({"Connection": "Upgrade", "Upgrade": "websocket",
                            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": self.key.decode()})
        elif self.form in _ACCEPT:
            headers["Accept"] = _ACCEPT[self.form]
        headers.update(self.headers)
        lines = ["GET /jobs/%s?%s HTTP/1.1" % (self.jid, self.query or "&".join(query))]
        lines += ["%s: %s" % item for item in headers.items() if item[1] is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def open(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT)
        self._writer.write(self._request())
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            raise Cut("no answer") from None
        first, *fields = head[:-4].decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.fields = {name.lower(): value.strip()
                       for name, _, value in (field.partition(":") for field in fields)}
        if self.status != (101 if self.form == "ws" else 200):
            body = await self._reader.readexactly(int(self.fields.get("content-length", 0)))
            raise Refused(self.status, self.fields, body)
        if self.form == "ws":
            want = base64.b64encode(hashlib.sha1(self.key + _GUID).digest()).decode()
            assert self.fields["sec-websocket-accept"] == want, self.fields

    # ---- bytes ----

    async def _exactly(self, n):
        try:
            return await self._reader.readexactly(n)
        except (asyncio.IncompleteReadError, OSError):
            raise Cut("the connection ended") from None

    async def _chunk(self):
        """The bytes of the next chunk; b"" at the last one."""
        try:
            size = await self._reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, OSError):
            raise Cut("the connection ended") from None
        data = await self._exactly(int(size, 16) + 2)
        return data[:-2]

    async def _frame(self):
        first, second = await self._exactly(2)
        assert not second & 0x80, "a server's frame is masked"
        size = second & 0x7f
        if size == 126:
            size, = struct.unpack(">H", await self._exactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", await self._exactly(8))
        return first, await self._exactly(size)

    def send_frame(self, opcode, data=b"", fin=True, mask=True):
        """Sends a frame of a client."""
        head = struct.pack(">B", (0x80 if fin else 0) | opcode)
        bit = 0x80 if mask else 0
        if len(data) < 126:
            head += struct.pack(">B", bit | len(data))
        elif len(data) < 65536:
            head += struct.pack(">BH", bit | 126, len(data))
        else:
            head += struct.pack(">BQ", bit | 127, len(data))
        key = os.urandom(4) if mask else b""
        self._writer.write(head + key + (bytes(b ^ key[i % 4] for i, b in enumerate(data)) if mask else data))

    async def _message(self):
        """The next text message; None at a close frame."""
        parts = []
        while True:
            first, data = await self._frame()
            opcode, fin = first & 15, first & 0x80
            if opcode == 8:
                self.code, self.reason = struct.unpack(">H", data[:2])[0], data[2:].decode()
                self.send_frame(8, data[:2])
                return None
            if opcode == 9:
                self.pings += 1
                if self.pong:
                    self.send_frame(10, data)
            elif opcode == 10:
                self.ponged = data
            else:
                assert opcode == (0 if parts else 1), "opcode %d" % opcode
                parts.append(data)
                if fin:
                    return b"".join(parts)

    pong = True
    ponged = None

    # ---- items ----

    async def _more(self):
        chunk = await self._chunk()
        end = b"\n\n" if self.form == "sse" else b"\n"
        *whole, self._rest = (self._rest + chunk).split(end)
        self._lines.extend(whole)
        return bool(chunk)

    def _event(self, text):
        fields = dict((name, value) for name, _, value in
                      (line.partition(b": ") for line in text.split(b"\n")))
        if text.startswith(b":"):
            return Item("beat", None, b"")
        if b"retry" in fields:
            return None
        kind = fields.get(b"event", b"entry").decode()
        return Item(kind, int(fields[b"id"]) if b"id" in fields else None, fields[b"data"])

    async def next(self):
        if self.form == "ws":
            text = await self._message()
            if text is not None:
                return _split(text)
            if self.code != 1000:
                raise Cut("closed with %d %s" % (self.code, self.reason))
            return None
        while True:
            while self._lines:
                line = self._lines.popleft()
                if self.form == "chunked":
                    return Item("entry", None, line)
                item = self._event(line) if self.form == "sse" else _split(line)
                if item:
                    return item
            if not await self._more():
                return None

    async def all(self):
        items = []
        while True:
            item = await self.next()
            if item is None:
                return items
            items.append(item)


def follow_all(port, jid, form, after=None, limit=60.0, **options):
    """Follows to the end; returns the items."""
    async def run():
        async with Follow(port, jid, form, after, **options) as f:
            return await f.all()
    return asyncio.run(asyncio.wait_for(run(), limit))
