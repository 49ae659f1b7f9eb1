# SPDX-License-Identifier: MIT
"""The API's document: that it is OpenAPI 3.1 by a validator that is not ours, that it has all there is, and
that the check of every answer of the functional tests against it can fail."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, openapi, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

CHECK = os.path.join(ROOT, "tests", "openapi")
FILES = ("package.json", "package-lock.json", "check.mjs")
OURS = ("EINTEGRITY", "EUSAGE", "EJSONPARSE")  # npm's words for a lock file that is not right

TASK = """return {
  summary = "takes things", run = function() end,
  args = {
    n = { "integer", required = true, min = 1, max = 9 }, size = { "count", default = "10%" },
    word = { "string", match = "^[%w_.-]+$" }, kind = { "choice", of = { "a", "2" } },
    key = { "string", secret = true }, names = { "list", of = "string" },
  },
}"""


def validator():
    """The directory of the validator, installed when it is not there; raises SkipTest when it cannot be."""
    if not shutil.which("npm") or not shutil.which("node"):
        raise unittest.SkipTest("npm is not installed")
    digest = hashlib.sha256()
    for name in FILES:
        with open(os.path.join(CHECK, name), "rb") as f:
            digest.update(f.read())
    base = os.path.join(ROOT, "build", "npm")
    where = os.path.join(base, digest.hexdigest()[:16])
    if os.path.isdir(where):
        return where
    os.makedirs(base, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=base) as new:
        for name in FILES:
            shutil.copy(os.path.join(CHECK, name), new)
        env = dict(os.environ, npm_config_cache=os.path.join(new, "cache"), npm_config_fetch_retries="1",
                   npm_config_fetch_timeout="20000", npm_config_update_notifier="false")
        try:
            done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=new, env=env,
                                  text=True, timeout=120 * SLOW, capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            raise unittest.SkipTest("npm took too long to fetch the validator") from None
        if done.returncode:
            assert not any(word in done.stderr for word in OURS), done.stderr
            why = [line for line in done.stderr.splitlines() if " error " in line] or ["no reason was given"]
            raise unittest.SkipTest("npm cannot fetch the validator: " + " ".join(why)[:300])
        shutil.rmtree(os.path.join(new, "cache"), ignore_errors=True)
        try:
            os.rename(new, where)
            os.mkdir(new)
        except OSError:
            assert os.path.isdir(where)  # another run was faster
    return where


class Document(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.exed = Exed()
        os.makedirs(cls.exed.path("modules", "tasks"))
        cls.exed.write("modules/tasks/takes.lua", TASK)
        cls.exed.write("modules/tasks/broken.lua", "return {")
        cls.exed.conf["runner"] = {"modules": cls.exed.path("modules")}
        cls.exed.start()
        cls.addClassCleanup(cls.exed.stop)
        wait_until(lambda: [one for one in cls.exed.get("/tasks").body if one["name"] == "takes" and "args" in one],
                   20, "the task is known")
        answer = cls.exed.get("/openapi.json")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
        cls.document = answer.body

    def ask_validator(self, document):
        where = validator()
        done = subprocess.run(["node", "check.mjs"], cwd=where, input=json.dumps(document), text=True,
                              timeout=60 * SLOW, capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_a_validator_that_is_not_ours_finds_it_good(self):
        self.assertEqual(self.ask_validator(self.document), (0, "3.1\n"))
        bad = dict(self.document, paths={"/x": {"get": {"responses": {"200": {}}}}})
        code, said = self.ask_validator(bad)
        self.assertEqual(code, 1, said)

    def test_its_schemas_are_schemas_and_its_references_lead_somewhere(self):
        if openapi.jsonschema is None:
            self.skipTest("there is no jsonschema for this python")
        for schema in self.document["components"]["schemas"].values():
            openapi.jsonschema.Draft202012Validator.check_schema(schema)
        for name in set(re.findall(r'"\$ref": "#/components/([^"]+)"', json.dumps(self.document))):
            at = self.document["components"]
            for part in name.split("/"):
                self.assertIn(part, at, name)
                at = at[part]

    def test_it_has_every_path_and_method_of_the_handlers(self):
        found = {path: set(item) for path, item in self.document["paths"].items()}
        wanted = {}
        where = os.path.join(ROOT, "lua", "handlers", "exed")
        for name in os.listdir(where):
            path = "/" + name[:-4].replace("job_", "jobs/{jid}/")
            path = {"/job": "/jobs/{jid}", "/openapi": "/openapi.json"}.get(path, path)
            wanted[path] = found.get(path)
            for method in found.get(path, set()):
                text = self.exed.request("OPTIONS", path.replace("{jid}", "x")).headers["allow"]
                self.assertIn(method.upper(), text)
                self.assertNotIn("default", self.document["paths"][path][method]["responses"],
                                 "%s: its %s does not say what it `answers`" % (name, method))
        self.assertEqual(wanted, found)
        ids = [one["operationId"] for item in self.document["paths"].values() for one in item.values()]
        self.assertEqual(len(ids), len(set(ids)))

    def test_what_is_checked_is_what_is_said(self):
        body = self.document["paths"]["/execute"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        self.assertFalse(body["additionalProperties"])
        self.assertEqual(body["properties"]["priority"], {"type": "integer", "minimum": -10, "maximum": 10,
                                                          "description": "higher goes first"})
        self.assertIn({"required": ["cmd"]}, body["allOf"])
        self.assertIn({"anyOf": [{"required": ["targets"]}, {"required": ["target"]}]}, body["allOf"])
        answers = self.document["paths"]["/execute"]["post"]["responses"]
        self.assertLess({"200", "201", "400", "401", "404", "405", "409", "415", "421", "422", "503"}, set(answers))
        self.assertEqual(set(answers["201"]["headers"]), {"Location", "Idempotent-Replay"})
        schemes = self.document["components"]["securitySchemes"]
        self.assertEqual((schemes["bearer"]["type"], schemes["bearer"]["scheme"]), ("http", "bearer"))

    def test_what_tasks_take_is_in_it(self):
        schema = self.document["components"]["schemas"]["Task.takes"]
        self.assertEqual(schema["properties"]["n"], {"type": "integer", "minimum": 1, "maximum": 9})
        self.assertEqual(schema["properties"]["word"]["pattern"], r"^(?:[A-Za-z0-9_\.\-]+)$".replace(r"\.", "."))
        self.assertEqual(schema["properties"]["kind"]["enum"], ["a", "2", 2])
        self.assertTrue(schema["properties"]["key"]["writeOnly"])
        self.assertNotIn("Task.broken", self.document["components"]["schemas"])
        opts = self.document["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        self.assertIn({"$ref": "#/components/schemas/Task.takes"}, opts["properties"]["taskopts"]["anyOf"])

    def test_exed_run_prints_the_same_but_for_tasks(self):
        mine = openapi.document()
        self.assertEqual(set(mine["paths"]), set(self.document["paths"]))
        self.assertEqual(mine["paths"]["/execute"], self.document["paths"]["/execute"])
        self.assertEqual(mine["info"], self.document["info"])


class Checked(unittest.TestCase):
    """The check that every answer goes through."""

    def setUp(self):
        if openapi.jsonschema is None:
            self.skipTest("there is no jsonschema for this python")

    def test_what_is_not_in_the_document_is_found(self):
        kind = {"content-type": "application/json"}
        jid = "c4f6acd3-4dda-44d0-8f99-76b4587e55d0"
        created = dict(kind, location="/jobs/" + jid)
        good = {"targets": ["a"], "operate": "ping", "operate_args": {}, "startat": 1, "state": 0, "taskid": jid,
                "error": "", "return_data": {"a": [{"status": 1}]}}
        for answer in (("POST", "/ping", 201, created, {"jid": jid}), ("GET", "/jobs", 200, kind, [jid]),
                       ("GET", "/jobs/%s?outputs=1" % jid, 200, kind, good), ("GET", "/jobs", 200, kind, [good]),
                       ("GET", "/ping?target=a", 200, kind, {"a": {"status": 4, "error": "x"}}),
                       ("GET", "/nosuch", 404, kind, {"message": "x"}), ("DELETE", "/jobs/" + jid, 204, {}, ""),
                       ("POST", "/execute", 413, kind, {"message": "x"})):
            openapi.check(*answer)
        for answer in (("POST", "/ping", 201, kind, {"jid": jid}), ("POST", "/ping", 201, created, {"id": jid}),
                       ("POST", "/ping", 202, created, {"jid": jid}), ("GET", "/nosuch", 200, kind, {}),
                       ("GET", "/nosuch", 404, kind, {"error": "x"}), ("GET", "/jobs", 200, kind, [1]),
                       ("GET", "/jobs/" + jid, 200, kind, {**good, "state": 3}),
                       ("GET", "/jobs/" + jid, 200, kind, {**good, "return_data": {"a": {"status": 1}}}),
                       ("GET", "/ping?target=a", 200, kind, {"a": {"status": 9}}),
                       ("GET", "/jobs/" + jid, 200, {"content-type": "text/html"}, "x"),
                       ("PUT", "/jobs", 405, kind, "x" and {"msg": "x"}), ("GET", "/jobs", 404, kind, {"message": "x"})):
            with self.assertRaises(AssertionError, msg=answer):
                openapi.check(*answer)

    def test_the_tests_client_asks_it(self):
        hosts = Sshd(1)
        with hosts, Exed(hosts) as node:
            schema = openapi.document()["components"]["schemas"]["Names"]
            items = schema["items"]
            try:
                schema["items"] = {"type": "integer"}
                openapi._validator.cache_clear()
                with self.assertRaisesRegex(AssertionError, "not as in the API's document"):
                    node.get("/target")
            finally:
                schema["items"] = items
                openapi._validator.cache_clear()
            self.assertEqual(node.get("/target").body, ["web01"])


if __name__ == "__main__":
    unittest.main()
