# SPDX-License-Identifier: MIT
"""What clients of a predecessor must keep being able to do, as data: one JSON file per dialect.

A file is a list of cases, each of which becomes a test:
  tag     R the predecessor's README says it, S only its source did, F a fault of it that stays fixed,
          X exed's own
  says    what must hold
  ask     "METHOD /path?query"
  json, text, headers   the body as JSON or as it is; headers beside those that a client sends anyway
  status, reason, answer, answer_headers   what must come back

In an answer, "~..." is a regular expression for the whole text, "*" anything, "<NAME>" a check of the
test class, and an object has exactly the keys that are named unless "..." is one of them. "$NAME" stands
for what the test class has under that name, in the question and in the answer.
"""

import http.client
import json
import os
import re

from exedtest import openapi

HERE = os.path.dirname(os.path.abspath(__file__))


def misfit(want, got, checks, where="answer"):
    """Where `got` is not what is wanted, in words; None when it fits."""
    if isinstance(want, str) and want.startswith("<"):
        return None if checks[want](got) else "%s: %r is not %s" % (where, got, want)
    if want == "*":
        return None
    if isinstance(want, str) and want.startswith("~"):
        if isinstance(got, str) and re.fullmatch(want[1:], got, re.S):
            return None
        return "%s: %r does not match %s" % (where, got, want[1:])
    if type(want) is not type(got):
        return "%s: %r instead of %r" % (where, got, want)
    if isinstance(want, dict):
        missing = set(want) - {"..."} - set(got)
        more = set() if "..." in want else set(got) - set(want)
        if missing or more:
            return "%s: missing %s, too many %s in %r" % (where, sorted(missing), sorted(more), got)
        pairs = [(key, want[key], got[key]) for key in want if key != "..."]
    elif isinstance(want, list):
        if len(want) != len(got):
            return "%s: %r instead of %r" % (where, got, want)
        pairs = [(str(i), one, got[i]) for i, one in enumerate(want)]
    else:
        return None if want == got else "%s: %r instead of %r" % (where, got, want)
    for key, one, other in pairs:
        problem = misfit(one, other, checks, where + "." + key)
        if problem:
            return problem
    return None


def fill_in(value, names):
    """The value with $NAME replaced by names(NAME)."""
    if isinstance(value, str):
        return re.sub(r"\$([A-Z]+)", lambda m: names(m[1]), value)
    if isinstance(value, list):
        return [fill_in(one, names) for one in value]
    if isinstance(value, dict):
        return {key: fill_in(one, names) for key, one in value.items()}
    return value


def ask(port, case):
    """Sends the case's request; returns (status, reason, headers with lower case names, JSON or text)."""
    method, target = case["ask"].split(" ", 1)
    headers, body = dict(case.get("headers", {})), None
    if "json" in case:
        body = json.dumps(case["json"]).encode()
    elif "text" in case:
        body = case["text"].encode()
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        text = answer.read().decode()
        lines = answer.status == 200 and "follow=1" in target  # several JSON texts, one a line
        if text and found.get("content-type") == "application/json" and not lines:
            text = json.loads(text)
        openapi.check(method, target, answer.status, found, text)
        return answer.status, answer.reason, found, text
    finally:
        connection.close()


def run(case, port, names, checks):
    """Asks, and raises AssertionError where the answer is another one than the case says."""
    case = fill_in(case, names)
    status, reason, headers, got = ask(port, case)
    assert status == case["status"], "%s: %d %s instead of %d: %r" % (
        case["ask"], status, reason, case["status"], got)
    wanted = {name: headers.get(name) for name in case.get("answer_headers", {})}
    problem = (misfit(case.get("reason", "*"), reason, checks, "reason")
               or misfit(case.get("answer_headers", {}), wanted, checks, "headers")
               or misfit(case.get("answer", "*"), got, checks))
    assert not problem, "%s: %s" % (case["ask"], problem)


def load(name):
    """The cases of a dialect's file."""
    with open(os.path.join(HERE, name + ".json"), encoding="utf-8") as f:
        return json.load(f)


def add_tests(cls, name):
    """Gives the test class one test for each case; the class has port(), name(NAME) and checks."""
    for number, case in enumerate(load(name)):
        def test(self, case=case):
            run(case, self.port(), self.name, self.checks)
        words = re.sub(r"[^A-Za-z0-9]+", "_", case["says"]).strip("_")
        test.__doc__ = "%s %s: %s" % (case["tag"], case["ask"], case["says"])
        setattr(cls, "test_%03d_%s_%s" % (number, case["tag"], words), test)
    return cls
