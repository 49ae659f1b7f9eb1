# SPDX-License-Identifier: MIT
"""The API's document, and whether an answer is as it says: asked of every answer that the tests get."""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse

from .procs import BUILD, SLOW

try:
    import jsonschema
except ImportError:  # another python than Debian's, for which the package is installed
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        import jsonschema
    except ImportError:
        jsonschema = None
    finally:
        sys.path.remove("/usr/lib/python3/dist-packages")

# Answered by the HTTP server before a path is looked at.
EARLY = {400, 401, 403, 408, 413, 414, 417, 421, 431, 501, 503, 505}
MOST = 30  # items of a list or an object that are looked at


@functools.lru_cache(maxsize=None)
def document():
    """As the program under test prints it; None when there is no jsonschema to use it with."""
    with tempfile.TemporaryDirectory(prefix="exedtest-") as where:
        env = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
        done = subprocess.run([os.path.join(BUILD, "exed-run"), "openapi"], cwd=where, env=env, text=True,
                              timeout=60 * SLOW, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@functools.lru_cache(maxsize=None)
def _paths():
    """(regular expression, item) of each path, those without parameters first."""
    found = []
    for path in sorted(document()["paths"], key=lambda path: path.count("{")):
        parts = ["[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/")]
        found.append((re.compile("/".join(parts) + "/?"), document()["paths"][path]))
    return found


def _item(target):
    path = re.sub(r"/+", "/", target.split("?")[0])
    for form, item in _paths():
        if form.fullmatch(path):
            return item
    return None


def _resolve(value):
    while "$ref" in value:
        at = document()
        for part in value["$ref"].lstrip("#/").split("/"):
            at = at[part]
        value = at
    return value


@functools.lru_cache(maxsize=None)
def _validator(text):
    return jsonschema.Draft202012Validator({"components": document()["components"], **json.loads(text)})


def misfit(schema, value):
    """Where the value is not as the schema says, in words, or None."""
    error = jsonschema.exceptions.best_match(
        _validator(json.dumps(schema, sort_keys=True)).iter_errors(_cut(value)))
    return error and "%s: %s" % ("/".join(map(str, error.absolute_path)) or "the whole", error.message[:500])


def _cut(value):
    """The value, of long lists and large objects only the first items."""
    if isinstance(value, dict):
        return {key: _cut(value[key]) for _, key in zip(range(MOST), value)}
    if isinstance(value, list):
        return [_cut(one) for one in value[:MOST]]
    return value


def _problem(method, target, status, headers, body, own_paths):
    item = _item(target)
    operation = (item or {}).get("get" if method == "HEAD" else method.lower())
    kind = headers.get("content-type", "").split(";")[0]
    if method == "OPTIONS":
        return None if status == 204 or status in EARLY or item is None and status == 404 else "not 204"
    if operation is None:
        if status < 400:
            return None if own_paths else "this is not in the document"
        responses = {}
    else:
        responses = operation["responses"]
    response = responses.get(str(status), responses.get("default"))
    if response is None and status not in EARLY and (status, item) != (404, None) and status != 405:
        return None if item is None and own_paths else "this status is not in the document"
    if method == "HEAD":
        return None
    if response is None:
        schema = {"$ref": "#/components/schemas/Error"}
    else:
        response = _resolve(response)
        missing = [name for name in response.get("headers", {})
                   if name in ("Location", "Allow", "Retry-After") and name.lower() not in headers]
        content = response.get("content", {})
        if missing:
            return "the header %s is missing" % missing[0]
        if kind not in content:
            return None if not content and not body else "the type %r is not in the document" % kind
        schema = content[kind]["schema"]
    if kind != "application/json" or isinstance(body, str):
        return None  # a stream, or text
    return misfit(schema, body)


def check_line(number, value):
    """The same of a line of a job that is followed: the job object first, then records and lines of output."""
    problem = jsonschema and misfit({"$ref": "#/components/schemas/" + ("Chunk" if number else "Job")}, value)
    assert not problem, "a followed job's line %d: not as in the API's document: %s\n%s" % (
        number, problem, str(value)[:1000])


def check(method, target, status, headers, body, own_paths=False):
    """Raises AssertionError when the answer (headers: lower case names; body: JSON or text) is not as the
    document says. own_paths: the node has handlers of its own, which are not in it."""
    if jsonschema is None or not target.startswith("/"):
        return
    problem = _problem(method, urllib.parse.unquote(target.split("?")[0]) if "%2F" not in target.upper() else
                       target, status, headers, body, own_paths)
    assert not problem, "%s %s, answered %d: not as in the API's document: %s\n%s" % (
        method, target, status, problem, str(body)[:1000])
