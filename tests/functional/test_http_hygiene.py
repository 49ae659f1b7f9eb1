# SPDX-License-Identifier: MIT
"""What a client may send wrongly, and what it gets: one table of raw requests. After each of them the
server answers GET /target, and its memory does not grow however often the table is repeated."""

import json
import os
import re
import socket
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support")]

from exedtest import Exed  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

exed = None
ROUNDS = 60 // SLOW  # of the whole table, when memory is looked at

CLOSED, KEPT = True, False


def setUpModule():
    global exed
    exed = Exed(conf={"api": {"max_body": "64k", "header_timeout": "2s", "send_timeout": "2s"}})
    exed.conf["inventory"]["path"] = exed.write("hosts.ini", "[web]\nweb[01:20]\n")
    exed.start()


def tearDownModule():
    exed.stop()


# ---- one request --------------------------------------------------------------------------------

def head(line, *fields, host="localhost"):
    lines = [line] + (["Host: " + host] if host is not None else []) + list(fields)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def get(target="/target", *fields, **options):
    return head("GET %s HTTP/1.1" % target, *fields, **options)


def post(body, *fields, target="/execute", kind="application/json"):
    body = body if isinstance(body, bytes) else body.encode()
    fields = list(fields) + (["Content-Type: " + kind] if kind else [])
    return head("POST %s HTTP/1.1" % target, *fields, "Content-Length: %d" % len(body)) + body


def framed(body, *fields, method="POST"):
    """A body with framing fields of the case's own."""
    return head("%s /execute HTTP/1.1" % method, "Content-Type: application/json", *fields) + body


def chunked(text):
    return framed(text, "Transfer-Encoding: chunked")


def execute(text, target="web01"):
    """POST /execute with that JSON as its whole body, or as the value of `timeout` behind a good start."""
    return post('{"targets": ["%s"], "cmd": "true", %s}' % (target, text))


def deep(levels):
    return post('{"targets": %s"web01"%s, "cmd": "true"}' % ("[" * (levels - 1), "]" * (levels - 1)))


# Name, bytes, status, whether the connection is closed behind the answer, and what its text holds.
FRAMING = [
    ("a good request", get(), 200, KEPT, '["web01"'),
    ("a good request of HTTP/1.0", head("GET /target HTTP/1.0", host=None), 200, CLOSED, '["web01"'),
    ("one empty line before a request", b"\r\n" + get(), 200, KEPT, '["web01"'),
    ("two empty lines before a request", b"\r\n\r\n" + get(), 400, CLOSED, ""),
    ("both lengths", framed(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), 400, CLOSED,
     "both Content-Length and Transfer-Encoding"),
    ("both lengths, the other way round", framed(b"0\r\n\r\n", "Transfer-Encoding: chunked",
                                                 "Content-Length: 5"), 400, CLOSED, "both"),
    ("two lengths", framed(b"{}", "Content-Length: 2", "Content-Length: 3"), 400, CLOSED, "more than one"),
    ("two equal lengths", framed(b"{}", "Content-Length: 2", "Content-Length: 2"), 400, CLOSED,
     "more than one"),
    ("a list of lengths", framed(b"{}", "Content-Length: 2, 2"), 400, CLOSED, "decimal"),
    ("a length with a sign", framed(b"{}", "Content-Length: +2"), 400, CLOSED, "decimal"),
    ("a negative length", framed(b"{}", "Content-Length: -2"), 400, CLOSED, "decimal"),
    ("a hex length", framed(b"{}", "Content-Length: 0x2"), 400, CLOSED, "decimal"),
    ("a length with a point", framed(b"{}", "Content-Length: 2.0"), 400, CLOSED, "decimal"),
    ("an empty length", framed(b"{}", "Content-Length:"), 400, CLOSED, "decimal"),
    ("a blank inside a length", framed(b"{}", "Content-Length: 2 0"), 400, CLOSED, "decimal"),
    ("a length of 2^64 + 2", framed(b"{}", "Content-Length: 18446744073709551618"), 413, CLOSED, "larger"),
    ("a length of 30 digits", framed(b"{}", "Content-Length: " + "9" * 30), 413, CLOSED, "larger"),
    ("a length of GET", framed(b"", "Content-Length: nan", method="GET"), 400, CLOSED, "decimal"),
    ("a coding that is not chunked", framed(b"{}", "Transfer-Encoding: gzip"), 501, CLOSED, "gzip"),
    ("chunked and gzip", framed(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), 400, CLOSED, "chunked"),
    ("chunked twice", framed(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400,
     CLOSED, "more than one"),
    ("chunked with a byte behind it", framed(b"0\r\n\r\n", "Transfer-Encoding: chunked\x0b"), 400, CLOSED,
     "control byte"),
    ("chunked in quotes", framed(b"0\r\n\r\n", 'Transfer-Encoding: "chunked"'), 400, CLOSED, "chunked"),
    ("chunked, identity", framed(b"0\r\n\r\n", "Transfer-Encoding: chunked, identity"), 400, CLOSED,
     "chunked"),
    ("an empty coding", framed(b"{}", "Transfer-Encoding:"), 400, CLOSED, "chunked"),
    ("a coding in HTTP/1.0", head("POST /execute HTTP/1.0", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400,
     CLOSED, "HTTP/1.0"),
    ("a signed chunk", chunked(b"+2\r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "chunk size"),
    ("a hex chunk", chunked(b"0x2\r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "chunk size"),
    ("a chunk with a blank before it", chunked(b" 2\r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "chunk size"),
    ("a chunk with a blank behind it", chunked(b"2 \r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "chunk size"),
    ("an empty chunk size", chunked(b"\r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "chunk size"),
    ("a chunk size of 17 digits", chunked(b"00000000000000002\r\n{}\r\n0\r\n\r\n"), 400, CLOSED,
     "chunk size"),
    ("a chunk of 2^64 - 1", chunked(b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n"), 413, CLOSED, "larger"),
    ("chunks that are together too large", chunked(b"8000\r\n" + b" " * 0x8000 + b"\r\n8001\r\n"), 413,
     CLOSED, "larger"),
    ("a chunk that is longer than its size", chunked(b"1\r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "longer"),
    ("a chunk with a bare LF", chunked(b"2\n{}\r\n0\r\n\r\n"), 400, CLOSED, "CR LF"),
    ("a chunk's end with a bare LF", chunked(b"2\r\n{}\n0\r\n\r\n"), 400, CLOSED, ""),
    ("a long chunk extension", chunked(b"2;" + b"a" * 300 + b"\r\n{}\r\n0\r\n\r\n"), 400, CLOSED,
     "chunk size"),
    ("a control byte in a chunk extension", chunked(b"2;a\x01\r\n{}\r\n0\r\n\r\n"), 400, CLOSED, "control"),
    ("a chunk extension", chunked(b"2;a=b\r\n{}\r\n0\r\n\r\n"), 400, KEPT, "no target"),
    ("a trailer", chunked(b"2\r\n{}\r\n0\r\nA: b\r\n\r\n"), 400, KEPT, "no target"),
    ("a trailer without a colon", chunked(b"2\r\n{}\r\n0\r\nA b\r\n\r\n"), 400, CLOSED, "colon"),
    ("a trailer that names a length", chunked(b"2\r\n{}\r\n0\r\nContent-Length: 7\r\n\r\n"), 400, KEPT,
     "no target"),
    ("trailers that are too large", chunked(b"0\r\n" + b"A: " + b"b" * 17000 + b"\r\n\r\n"), 431, CLOSED,
     "too large"),
    ("a body of no length at all", head("POST /execute HTTP/1.1"), 400, KEPT, "missing body"),
]

LINES = [
    ("a space before the colon", get("/target", "A : b"), 400, CLOSED, "colon"),
    ("a tab before the colon", get("/target", "A\t: b"), 400, CLOSED, "colon"),
    ("no colon", get("/target", "A"), 400, CLOSED, "colon"),
    ("no name", get("/target", ": b"), 400, CLOSED, "colon"),
    ("a name in brackets", get("/target", "A(b): c"), 400, CLOSED, "colon"),
    ("a bare LF behind the request line", b"GET /target HTTP/1.1\nHost: localhost\r\n\r\n", 400, CLOSED,
     "CR LF"),
    ("a bare LF behind a field", b"GET /target HTTP/1.1\r\nHost: localhost\n\r\n", 400, CLOSED, "CR LF"),
    ("a bare LF at the end", b"GET /target HTTP/1.1\r\nHost: localhost\r\n\n", 400, CLOSED, "CR LF"),
    ("a bare CR in a field", get("/target", "A: b\rc"), 400, CLOSED, "control byte"),
    ("two CRs", b"GET /target HTTP/1.1\r\nHost: localhost\r\r\n\r\n", 400, CLOSED, "control byte"),
    ("a folded line", get("/target", "A: b\r\n c"), 400, CLOSED, "folded"),
    ("a line folded by a tab", get("/target", "A: b\r\n\tc"), 400, CLOSED, "folded"),
    ("a folded first line", b"GET /target HTTP/1.1\r\n Host: localhost\r\n\r\n", 400, CLOSED, "folded"),
    ("a NUL in a value", get("/target", "A: b\0c"), 400, CLOSED, "control byte"),
    ("a NUL in a name", get("/target", "A\0: b"), 400, CLOSED, "colon"),
    ("a control byte in a value", get("/target", "A: b\x1bc"), 400, CLOSED, "control byte"),
    ("DEL in a value", get("/target", "A: b\x7fc"), 400, CLOSED, "control byte"),
    ("a byte over 127 in a name", get("/target", "\xe4: b"), 400, CLOSED, "colon"),
    ("a byte over 127 in a value", get("/target", "A: \xe4"), 200, KEPT, "web01"),
    ("a tab in a value", get("/target", "A: b\tc"), 200, KEPT, "web01"),
    ("no Host", get(host=None), 400, CLOSED, "no Host"),
    ("two Hosts", get("/target", "Host: localhost"), 400, CLOSED, "more than one Host"),
    ("an empty Host", get(host=""), 400, CLOSED, "bad Host"),
    ("a Host with a user", get(host="me@localhost"), 400, CLOSED, "bad Host"),
    ("a Host with a path", get(host="localhost/a"), 400, CLOSED, "bad Host"),
    ("a Host with a list", get(host="localhost, localhost"), 400, CLOSED, "bad Host"),
    ("a Host with a bad port", get(host="localhost:80a"), 400, CLOSED, "bad Host"),
    ("a Host with a port over 65535", get(host="localhost:65536"), 400, CLOSED, "bad Host"),
    ("a Host with an open bracket", get(host="[::1"), 400, CLOSED, "bad Host"),
    ("a Host that is not ours", get(host="example.com"), 421, KEPT, "allowed_hosts"),
    ("a Host that begins like ours", get(host="localhost.example.com"), 421, KEPT, "allowed_hosts"),
    ("a Host that is our address", get(host="127.0.0.1:80"), 200, KEPT, "web01"),
    ("a Host in capitals with a dot", get(host="LOCALHOST."), 200, KEPT, "web01"),
    ("a Host that is not ours for a path that is not there", get("/nothing", host="example.com"), 421, KEPT,
     "allowed_hosts"),
    ("a Host that is not ours for OPTIONS", head("OPTIONS /target HTTP/1.1", host="example.com"), 421, KEPT,
     "allowed_hosts"),
    ("an absolute target", get("http://localhost/target"), 200, KEPT, "web01"),
    ("an absolute target of another host", get("http://example.com/target"), 400, CLOSED,
     "different hosts"),
    ("an absolute target of another host and its Host", get("http://example.com/target",
                                                            host="example.com"), 421, KEPT, "allowed_hosts"),
    ("an absolute target of another port", get("http://localhost:81/target"), 400, CLOSED, "different"),
    ("an absolute target with a user", get("http://me@localhost/target"), 400, CLOSED, "bad host"),
    ("an absolute target without a host", get("http:///target"), 400, CLOSED, "bad host"),
    ("a target of another scheme", get("file:///etc/passwd"), 400, CLOSED, "path"),
    ("a target that is a name", get("target"), 400, CLOSED, "path"),
    ("a star that is not for OPTIONS", get("*"), 400, CLOSED, "OPTIONS"),
    ("a target with a fragment", get("/target#a"), 400, CLOSED, "request line"),
    ("a target with a blank", get("/target a"), 400, CLOSED, ""),
    ("a target with a byte over 127", get("/target\xe4"), 400, CLOSED, "request line"),
    ("a target with a tab", get("/target\ta"), 400, CLOSED, "request line"),
    ("two blanks in the request line", head("GET  /target HTTP/1.1"), 400, CLOSED, "request line"),
    ("a blank behind the version", head("GET /target HTTP/1.1 "), 400, CLOSED, "request line"),
    ("a request of HTTP/0.9", b"GET /target\r\n\r\n", 400, CLOSED, "request line"),
    ("a version in small letters", head("GET /target http/1.1"), 400, CLOSED, "request line"),
    ("a version with three digits", head("GET /target HTTP/1.10"), 400, CLOSED, "request line"),
    ("HTTP/2.0", head("GET /target HTTP/2.0"), 505, CLOSED, "HTTP/1.1"),
    ("HTTP/1.2", head("GET /target HTTP/1.2"), 505, CLOSED, "HTTP/1.1"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, CLOSED, "HTTP/1.1"),
    ("a method that nobody knows", head("BREW /target HTTP/1.1"), 501, CLOSED, "BREW"),
    ("a method in small letters", head("get /target HTTP/1.1"), 501, CLOSED, "get"),
    ("TRACE", head("TRACE /target HTTP/1.1"), 501, CLOSED, "TRACE"),
    ("CONNECT", head("CONNECT localhost:80 HTTP/1.1"), 501, CLOSED, "CONNECT"),
    ("a long method", head("A" * 70 + " /target HTTP/1.1"), 501, CLOSED, "AAAA"),
    ("no method", b" /target HTTP/1.1\r\n\r\n", 400, CLOSED, ""),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, CLOSED, "not an HTTP request"),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", 400, CLOSED, ""),
    ("nothing but NULs", b"\0" * 100, 400, CLOSED, "not an HTTP request"),
]

PATHS = [
    ("a path that climbs", get("/../etc/passwd"), 400, CLOSED, "'..'"),
    ("a path that climbs inside", get("/jobs/../target"), 400, CLOSED, "'..'"),
    ("a path that climbs at its end", get("/jobs/.."), 400, CLOSED, "'..'"),
    ("a path that climbs in code", get("/%2e%2e/target"), 400, CLOSED, "'..'"),
    ("a path that climbs half in code", get("/.%2E/target"), 400, CLOSED, "'..'"),
    ("a path that climbs behind a coded slash", get("/jobs%2f..%2ftarget"), 400, CLOSED, "'/'"),
    ("a coded slash", get("/jobs%2Fx"), 400, CLOSED, "'/'"),
    ("a backslash", get("/jobs\\..\\target"), 400, CLOSED, "backslash"),
    ("a coded backslash", get("/..%5ctarget"), 400, CLOSED, "backslash"),
    ("a NUL in a path", get("/target%00"), 400, CLOSED, "control byte"),
    ("a control byte in a path", get("/target%0a"), 400, CLOSED, "control byte"),
    ("DEL in a path", get("/target%7f"), 400, CLOSED, "control byte"),
    ("a path that is coded twice", get("/%252e%252e/target"), 404, KEPT, "no such path"),
    ("a code that is cut", get("/target%4"), 400, CLOSED, "percent"),
    ("a code that is none", get("/target%zz"), 400, CLOSED, "percent"),
    ("a code of 16 bits", get("/target%u0041"), 400, CLOSED, "percent"),
    ("a path that is not UTF-8", get("/target%ff"), 400, CLOSED, "UTF-8"),
    ("an overlong slash", get("/target%c0%af"), 400, CLOSED, "UTF-8"),
    ("a surrogate in a path", get("/target%ed%a0%80"), 400, CLOSED, "UTF-8"),
    ("a query with a bad code", get("/target?pattern=%4"), 400, CLOSED, "'pattern'"),
    ("a query that is not UTF-8", get("/target?pattern=%ff"), 400, CLOSED, "'pattern'"),
    ("a query with a NUL", get("/target?pattern=web%00"), 400, KEPT, "'pattern'"),
    ("a query with a newline", get("/target?pattern=web%0a"), 400, KEPT, ""),
    ("a parameter twice", get("/target?pattern=a&pattern=b"), 400, KEPT, "2 times"),
    ("a parameter that nobody knows", get("/target?patern=a"), 400, KEPT, "pattern"),
    ("a path that is not there", get("/nothing"), 404, KEPT, "no such path /nothing"),
    ("a jid that climbs", get("/jobs/%2e%2e%2e"), 404, KEPT, "no such jid"),
    ("a jid with control characters of Redis", get("/jobs/*%20%3e"), 404, KEPT, "no such jid"),
]

SIZES = [
    ("a target that is too long", get("/target?pattern=" + "a" * 8200), 414, CLOSED, "longer"),
    ("a target without end", b"GET /" + b"a" * 20000, 414, CLOSED, "long"),
    ("a header line that is too long", get("/target", "A: " + "b" * 17000), 431, CLOSED, "too large"),
    ("header lines that are together too long", get("/target", *["A%d: %s" % (i, "b" * 1000)
                                                                 for i in range(20)]), 431, CLOSED, "too large"),
    ("too many header lines", get("/target", *["A: b"] * 101), 431, CLOSED, "100"),
    ("a body that is too large, before it is read", framed(b"", "Content-Length: 65537"), 413, CLOSED, "65536"),
    ("a body that is too large, asked for", framed(b"", "Content-Length: 65537", "Expect: 100-continue"), 413,
     CLOSED, "65536"),
    ("a chunk that is too large, before it is read", chunked(b"10001\r\n"), 413, CLOSED, "65536"),
    ("a coded body", post(b"\x1f\x8b", "Content-Encoding: gzip"), 415, CLOSED, "coded"),
    ("a body coded twice", post(b"{}", "Content-Encoding: identity", "Content-Encoding: gzip"), 415, CLOSED,
     "coded"),
    ("a body that is not coded", post(b"{}", "Content-Encoding: identity"), 400, KEPT, "no target"),
    ("an expectation that nobody knows", post(b"{}", "Expect: 200-ok"), 417, CLOSED, "100-continue"),
    ("a body without a type", post("{}", kind=None), 415, KEPT, "application/json"),
    ("a form", post("targets=web01&cmd=true", kind="application/x-www-form-urlencoded"), 415, KEPT,
     "application/json"),
    ("text that a page of another site may send", post('{"a":1}', kind="text/plain"), 415, KEPT,
     "application/json"),
    ("a type that begins like JSON's", post("{}", kind="application/json5"), 415, KEPT, "application/json"),
    ("a type that names JSON behind its own", post("{}", kind="text/plain; application/json"), 415, KEPT,
     "application/json"),
    ("two types", post("{}", "Content-Type: text/plain"), 415, KEPT, "application/json"),
    ("a type with a parameter", post("{}", kind="Application/JSON; charset=utf-8"), 400, KEPT, "no target"),
    ("a body of a GET that is no JSON", head("GET /target HTTP/1.1", "Content-Length: 3") + b"a=b", 415, KEPT,
     "application/json"),
    ("a body of a GET with a field", head("GET /target HTTP/1.1", "Content-Type: application/json",
                                          "Content-Length: 17") + b'{"pattern": "we"}', 400, KEPT, "pattern"),
    ("an empty object as body of a GET", head("GET /target HTTP/1.1", "Content-Type: application/json",
                                              "Content-Length: 2") + b"{}", 200, KEPT, "web01"),
]

METHODS = [
    ("a method that a path does not have", head("PUT /target HTTP/1.1"), 405, KEPT, "PUT is not for /target"),
    ("PATCH", head("PATCH /jobs HTTP/1.1"), 405, KEPT, "PATCH"),
    ("POST where only GET is", post("{}", target="/target"), 405, KEPT, "POST"),
    ("HEAD", head("HEAD /target HTTP/1.1"), 200, KEPT, None),
    ("HEAD of what is not there", head("HEAD /nothing HTTP/1.1"), 404, KEPT, None),
    ("HEAD of a GET that runs something", head("HEAD /execute?target=web01&cmd=true HTTP/1.1"), 200, KEPT, None),
    ("OPTIONS of a path", head("OPTIONS /target HTTP/1.1"), 204, KEPT, None),
    ("OPTIONS of all", head("OPTIONS * HTTP/1.1"), 204, KEPT, None),
    ("OPTIONS of what is not there", head("OPTIONS /nothing HTTP/1.1"), 404, KEPT, "no such path"),
    ("another origin", post("{}", "Origin: http://example.com"), 403, KEPT, "example.com"),
    ("no origin", post("{}", "Origin: null"), 403, KEPT, "null"),
    ("two origins", post("{}", "Origin: http://localhost", "Origin: http://example.com"), 403, KEPT, ""),
    ("our name as the beginning of an origin", post("{}", "Origin: http://localhost.example.com"), 403, KEPT,
     ""),
    ("another port of our name as origin", post("{}", "Origin: http://localhost:8080"), 403, KEPT, ""),
    ("our own origin", post("{}", "Origin: http://localhost"), 400, KEPT, "no target"),
    ("a page of another site", post("{}", "Sec-Fetch-Site: cross-site"), 403, KEPT, "another site"),
    ("a page of a neighbour site", post("{}", "Sec-Fetch-Site: same-site"), 403, KEPT, "another site"),
    ("a page of ours", post("{}", "Sec-Fetch-Site: same-origin"), 400, KEPT, "no target"),
    ("a GET that runs something, from another site", get("/execute?target=web01&cmd=true",
                                                         "Sec-Fetch-Site: cross-site"), 403, KEPT, ""),
    ("a GET that only looks, from another site", get("/target", "Sec-Fetch-Site: cross-site"), 403, KEPT, ""),
    ("a GET that only looks, of another origin", get("/ping?target=web01", "Origin: http://example.com"), 403,
     KEPT, ""),
    ("an Upgrade that nobody asked about", get("/target", "Connection: Upgrade", "Upgrade: h2c"), 200, KEPT,
     "web01"),
    ("a request to close", get("/target", "Connection: close"), 200, CLOSED, "web01"),
]

JSON = [
    ("no JSON", post("targets"), 400, KEPT, "Invalid JSON document"),
    ("an array as body", post("[]"), 400, KEPT, "JSON object"),
    ("a number as body", post("1"), 400, KEPT, "JSON object"),
    ("null as body", post("null"), 400, KEPT, "JSON object"),
    ("bytes behind the end", post("{} {}"), 400, KEPT, "behind the end"),
    ("a NUL behind the end", post(b"{}\0"), 400, KEPT, "Invalid JSON document"),
    ("a comma at the end", execute('"window": 1,'), 400, KEPT, "Invalid JSON document"),
    ("a comment", execute('/* */ "window": 1'), 400, KEPT, "Invalid JSON document"),
    ("single quotes", post("{'targets': 'web01'}"), 400, KEPT, "Invalid JSON document"),
    ("a name without quotes", execute("window: 1"), 400, KEPT, "Invalid JSON document"),
    ("a byte order mark", post(b"\xef\xbb\xbf{}"), 400, KEPT, "byte order mark"),
    ("UTF-16", post('{}'.encode("utf-16")), 400, KEPT, "Invalid JSON document"),
    ("64 levels", deep(64), 400, KEPT, "must be"),
    ("65 levels", deep(65), 400, KEPT, "64 levels", "in 'targets"),
    ("60,000 levels", post('{"targets": ' + "[" * 60000), 400, KEPT, "64 levels", "in 'targets"),
    ("a name twice", execute('"window": 1, "window": 1'), 400, KEPT, "a name twice", "'window'"),
    ("a name twice, once in code", execute('"window": 1, "windo\\u0077": 1'), 400, KEPT, "a name twice",
     "'windo"),
    ("a name twice below", execute('"window": {"a": [0, {"b": 1, "b": 2}]}'), 400, KEPT, "a name twice",
     "'window.a[1].b'"),
    ("not UTF-8", execute('"lock": "a\xff"').replace(b"\xc3\xbf", b"\xff\xff"), 400, KEPT, "not UTF-8",
     "'lock'"),
    ("not UTF-8, by a short form", post(b'{"targets": ["web01"], "cmd": "\xc0\xaf"}'), 400, KEPT, "not UTF-8",
     "'cmd'"),
    ("not UTF-8 in a name", post(b'{"targets": ["web01"], "c\xff": 1}'), 400, KEPT, "not UTF-8", ""),
    ("a surrogate in UTF-8", post(b'{"targets": ["web01"], "cmd": "\xed\xa0\x80"}'), 400, KEPT, "not UTF-8",
     "'cmd'"),
    ("a lone high surrogate", execute('"lock": "\\ud800"'), 400, KEPT, "\\\\uD800", "'lock'"),
    ("a lone low surrogate", execute('"lock": "\\udc00"'), 400, KEPT, "\\\\uDC00", "'lock'"),
    ("two high surrogates", execute('"lock": "\\ud800\\ud800"'), 400, KEPT, "\\\\uD800", "'lock'"),
    ("a high surrogate in a list", post('{"targets": ["a", "\\ud800"], "cmd": "true"}'), 400, KEPT,
     "\\\\uD800", "'targets[1]'"),
    ("NaN", execute('"timeout": NaN'), 400, KEPT, "Invalid JSON document", "'timeout'"),
    ("Infinity", execute('"timeout": Infinity'), 400, KEPT, "Invalid JSON document", "'timeout'"),
    ("-Infinity", execute('"timeout": -Infinity'), 400, KEPT, "Invalid JSON document", "'timeout'"),
    ("a hex number", execute('"timeout": 0x10'), 400, KEPT, "Invalid JSON document", "'timeout'"),
    ("a number with a plus", execute('"timeout": +1'), 400, KEPT, "Invalid JSON document", "'timeout'"),
    ("a number with a 0 before it", execute('"timeout": 01'), 400, KEPT, "Invalid JSON document",
     "'timeout'"),
    ("a number that begins with a point", execute('"timeout": .5'), 400, KEPT, "Invalid JSON document",
     "'timeout'"),
    ("a number that ends with a point", execute('"timeout": 1.'), 400, KEPT, "Invalid JSON document",
     "'timeout'"),
    ("1e999", execute('"timeout": 1e999'), 400, KEPT, "beyond a double", "'timeout'"),
    ("-1e999", execute('"timeout": -1e999'), 400, KEPT, "beyond a double", "'timeout'"),
    ("2^63", execute('"priority": 9223372036854775808'), 400, KEPT, "beyond 64 bits", "'priority'"),
    ("-2^63 - 1", execute('"priority": -9223372036854775809'), 400, KEPT, "beyond 64 bits", "'priority'"),
    ("2^63 - 1", execute('"priority": 9223372036854775807'), 400, KEPT, "got 9223372036854775807",
     "'priority'"),
    ("-2^63", execute('"priority": -9223372036854775808'), 400, KEPT, "got -9223372036854775808",
     "'priority'"),
    ("2^53 + 1", execute('"priority": 9007199254740993'), 400, KEPT, "got 9007199254740993", "'priority'"),
    ("a NUL in a name of JSON", execute('"a\\u0000b": 1'), 400, KEPT, "a NUL in a name", ""),
    ("a NUL in a command", post('{"targets": ["web01"], "cmd": "a\\u0000b"}'), 400, KEPT, "NUL", "'cmd'"),
    ("a NUL in a target", post('{"targets": ["web\\u0000"], "cmd": "true"}'), 400, KEPT, "NUL", "'targets'"),
    ("a control byte in a text", post(b'{"targets": ["web01"], "cmd": "a\x01"}'), 400, KEPT, "control",
     "'cmd'"),
    ("a newline in a text", post(b'{"targets": ["web01"], "cmd": "a\nb"}'), 400, KEPT, "newline", "'cmd'"),
    ("an escape that is none", execute('"lock": "\\x41"'), 400, KEPT, "escape", "'lock'"),
    ("a cut escape", execute('"lock": "\\u12"'), 400, KEPT, "escape", "'lock'"),
    ("it ends inside a text", post('{"targets": "we'), 400, KEPT, "ends too early", "'targets'"),
    ("it ends inside a list", post('{"targets": ["web01"'), 400, KEPT, "ends too early", "'targets"),
    ("a pattern that is wrong", post('{"targets": ["web[01:02"], "cmd": "true"}'), 400, KEPT, "web[01:02"),
    ("an operator and nothing else", post('{"targets": ["!"], "cmd": "true"}'), 400, KEPT, "bad pattern"),
    ("a terminal's control bytes in a pattern", post('{"targets": ["web\\u001b[2J"], "cmd": "true"}'), 400, KEPT,
     "control characters"),
    ("an empty list", post('{"targets": [], "cmd": "true"}'), 400, KEPT, "no target(s) given"),
    ("an object for a list", post('{"targets": {"a": 1}, "cmd": "true"}'), 400, KEPT, "'targets'"),
    ("a list for a text", post('{"targets": ["web01"], "cmd": []}'), 400, KEPT, "'cmd'"),
    ("an empty list that stays one", post('{"targets": ["web01"], "cmd": "true", "window": []}'), 400, KEPT,
     "'window'"),
    ("a field that nobody knows", execute('"dry_rum": true'), 400, KEPT, "unknown field", "'dry_rum'"),
    ("a field that would be Lua's own", execute('"__index": {}'), 400, KEPT, "unknown field", "'__index'"),
]

def coming(*fields, line="POST /execute HTTP/1.1", host="localhost"):
    """A good head whose body does not come: an answer does not wait for it."""
    return head(line, *fields, "Content-Length: 3000", host=host)


JSON_TYPE = "Content-Type: application/json"

EARLY = [
    ("a body for a Host that is not ours", coming(JSON_TYPE, host="example.com"), 421, CLOSED, "allowed_hosts"),
    ("a body for a path that is not there", coming(JSON_TYPE, line="POST /nothing HTTP/1.1"), 404, CLOSED,
     "no such path"),
    ("a body for a method that a path does not have", coming(JSON_TYPE, line="PUT /target HTTP/1.1"), 405, CLOSED,
     "PUT"),
    ("a body from another origin", coming(JSON_TYPE, "Origin: http://example.com"), 403, CLOSED, "example.com"),
    ("a body from a page of another site", coming(JSON_TYPE, "Sec-Fetch-Site: cross-site"), 403, CLOSED,
     "another site"),
    ("a body of another type", coming("Content-Type: text/plain"), 415, CLOSED, "application/json"),
    ("a body without a type that has not come", coming(), 415, CLOSED, "application/json"),
    ("a body of another type for a GET", coming("Content-Type: text/plain", line="GET /target HTTP/1.1"), 415, CLOSED,
     "application/json"),
    ("a body of another type in chunks", head("POST /execute HTTP/1.1", "Content-Type: text/plain",
                                              "Transfer-Encoding: chunked"), 415, CLOSED, "application/json"),
    ("a body from another origin, asked for", coming(JSON_TYPE, "Origin: null", "Expect: 100-continue"), 403,
     CLOSED, "null"),
    ("an empty body in chunks, of no type", head("POST /execute HTTP/1.1", "Transfer-Encoding: chunked")
     + b"0\r\n\r\n", 400, KEPT, "missing body"),
]

TABLE = EARLY + FRAMING + LINES + PATHS + SIZES + METHODS + JSON


class Connection:
    """A connection on which one answer after another is read."""

    def __init__(self, data=b"", limit=10.0, rcvbuf=None):
        self.limit, self.rest = limit * SLOW, b""
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(self.limit)
        self.sock.connect(("127.0.0.1", exed.port))
        self.send(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has seen enough; its answer is there

    def more(self):
        part = self.sock.recv(65536)
        self.rest += part
        return part

    def answer(self, bodiless=False):
        """(status, fields, body) of the next answer; None when the connection has ended."""
        while b"\r\n\r\n" not in self.rest:
            if not self.more():
                return None
        text, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in fields, text
            fields[name.lower()] = value
        status = int(re.fullmatch(r"HTTP/1\.1 (\d\d\d) [ -~]+", first)[1])
        length = 0 if bodiless or status in (100, 204) else int(fields["content-length"])
        while len(self.rest) < length:
            assert self.more(), "the answer is cut"
        body, self.rest = self.rest[:length], self.rest[length:]
        return status, fields, body.decode()

    def ended(self):
        """Whether the server has closed: it does at once, or not before its idle limit."""
        if self.rest:
            return False
        self.send(get())
        try:
            return self.answer() is None
        except ConnectionResetError:
            return True


def try_case(name, data, status, closed, *texts):
    """Sends a case's bytes; raises AssertionError when its answer is another than it must be."""
    with Connection(data) as connection:
        got, fields, body = connection.answer(bodiless=data.startswith(b"HEAD"))
        what = "%s: %d %s" % (name, got, body)
        assert got == status, what
        assert (fields.get("connection") == "close") == closed, what
        assert connection.ended() == closed, what
        if status >= 400 and body:
            assert set(json.loads(body)) == {"message"}, what
            assert fields["content-type"] == "application/json", what
        for text in texts:
            assert body == "" if text is None else text in body, "%s: no %r in it" % (what, text)
        if status == 405 or data.startswith(b"OPTIONS") and status == 204:
            assert "GET" in fields["allow"], what
        if data.startswith(b"HEAD") and status != 200:
            assert int(fields["content-length"]) > 0, what


class Table(unittest.TestCase):
    def test_each_case_has_its_answer_and_the_next_request_too(self):
        names = [case[0] for case in TABLE]
        self.assertEqual(len(set(names)), len(names))
        for case in TABLE:
            with self.subTest(case[0]):
                try_case(*case)
                self.assertEqual(exed.get("/target").status, 200)

    def test_each_case_byte_by_byte_has_the_same_answer(self):
        for name, data, status, *_ in TABLE:
            if len(data) > 600:
                continue
            with self.subTest(name), Connection() as connection:
                for i in range(len(data)):
                    connection.send(data[i:i + 1])
                self.assertEqual(connection.answer(data.startswith(b"HEAD"))[0], status)

    def test_no_job_came_of_it(self):
        self.assertEqual(exed.get("/jobs?all=1").body, [])

    def test_its_memory_does_not_grow(self):
        def rounds(n):
            for _ in range(n):
                for case in TABLE:
                    with Connection(case[1]) as connection:
                        connection.answer(case[1].startswith(b"HEAD"))

        rounds(ROUNDS // 3)
        before, descriptors = exed.rss_kb(), len(exed.fds())
        rounds(ROUNDS)
        grown = exed.rss_kb() - before
        print("%d requests: %d KiB more" % (ROUNDS * len(TABLE), grown))
        if SLOW == 1:  # a sanitizer keeps freed memory
            self.assertLess(grown, 2048)
        self.assertLessEqual(len(exed.fds()), descriptors + 3)


if __name__ == "__main__":
    unittest.main()
