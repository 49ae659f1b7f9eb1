# SPDX-License-Identifier: MIT
"""What clients of EXEd must keep being able to do, line by line: compat/lines.json has each line with its tag,
requests that show it, which run here on two nodes, and the tests elsewhere that show the rest."""

import ast
import fnmatch
import glob
import json
import os
import re
import sys
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support"), HERE]

import compat  # noqa: E402
from exedtest import Exed, Sshd, free_port, wait_until  # noqa: E402

HOSTS = NODES = None
LINES = compat.load("lines")
SETTLED = 34  # questions in its last section

SYSTEMCTL = r"""#!/bin/sh
d=${0%/*}/..
word=inactive
[ -f "$d/$2" ] && read -r word <"$d/$2"
case $1 in
is-active) echo "$word"; [ "$word" = active ] || exit 3 ;;
start | restart | reload) echo active >"$d/$2" ;;
stop) echo inactive >"$d/$2" ;;
show) echo LoadState=loaded ;;
esac
"""
TASK = """return {
  summary = "says and shows", lock = "shared", args = { word = { "string", default = "x" } },
  run = function(job)
    job:say("hello")
    job.hosts:execute("echo " .. job.args.word, { step = "say it" })
    for _, host in ipairs(job.hosts) do host:record("OK", "well done") end
    return { n = #job.hosts }
  end,
}"""
PLAYBOOK = """- hosts: "{{ _targets }}"
  gather_facts: false
  roles: ["{{ _role }}"]
"""
# Lines of operations, which any executor has to hold.
BY_ANSIBLE = re.compile(r"1 (GET|POST) /(ping|facter|execute|deploy|service)|1 no targets|1 status|1 fault: unreachable")
ROLE = "#!/bin/sh\necho \"$@\" \"$a\"\n"


def put(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)


def new_node(inventory, **settings):
    node = Exed(HOSTS, {"ssh": {"connect_timeout": "5s"}, "api": settings})
    node.conf["inventory"]["path"] = node.write("hosts.ini", inventory)
    node.conf["runner"] = {"modules": node.path("modules")}
    node.conf["ssh"]["roles"] = node.path("roles")
    put(node.path("modules", "tasks", "shows.lua"), TASK)
    put(node.path("modules", "tasks", "typed.lua"), TASK.replace("lock", 'type = "own", lock'))
    put(node.path("modules", "tasks", "broken.lua"), "return {")
    put(node.path("roles", "r", "deploy.sh"), ROLE, 0o755)
    return node.start()


def loaded(node):
    tasks = {task["name"]: task for task in node.get("/tasks").body}
    return not any(task.get("loading") for task in tasks.values()) and "args" in tasks["shows"] \
        and "error" in tasks["broken"]


def setUpModule():
    global HOSTS, NODES
    HOSTS = Sshd(4)
    unittest.addModuleCleanup(HOSTS.stop)
    HOSTS.start()
    for host in HOSTS.hosts:
        put(os.path.join(host.dir, "bin", "systemctl"), SYSTEMCTL, 0o755)
    inventory = "\n".join(HOSTS.inventory_text().split("\n")[:5]) + (
        "\n[rest]\noff01 ansible_host=127.0.1.1 exed_disabled=1\n"
        "shut01 ansible_host=127.0.1.1 ansible_port=%d\n" % free_port("127.0.1.1"))
    NODES = {}
    for name, settings in (("", {}), ("other", {"server_header": "0ops Api Server", "state_alias": True})):
        NODES[name] = new_node(inventory, **settings)
        unittest.addModuleCleanup(NODES[name].stop)
    wait_until(lambda: loaded(NODES[""]), 20, "the tasks are loaded")


def is_uuid4(text):
    try:
        return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4
    except ValueError:
        return False


def is_job(job):
    return isinstance(job, dict) and {"targets", "operate", "operate_args", "startat", "state", "taskid", "error",
                                      "return_data"} <= set(job)


def is_followed(text):
    """The job object first, without records, then a line for each record."""
    first, *rest = [json.loads(line) for line in text.splitlines()]
    return is_job(first) and first["return_data"] == {} and bool(rest) and all(
        isinstance(record, dict) and "status" in record for line in rest for record in line.values())


def has_tasks(tasks):
    found = {task["name"]: task for task in tasks}
    return (found["shows"]["type"] == "task" and found["shows"]["summary"] == "says and shows"
            and found["typed"]["type"] == "own" and found["shows"]["args"][0]["name"] == "word" and "broken.lua:1" in found["broken"]["error"])


class Lines(unittest.TestCase):
    """The requests of each line, in their order."""

    kept = {}
    jids = {}
    checks = {
        "<int>": lambda got: type(got) is int,
        "<object>": lambda got: isinstance(got, dict),
        "<jids>": lambda got: bool(got) and all(map(is_uuid4, got)),
        "<jobs>": lambda got: bool(got) and all(map(is_job, got)),
        "<leases>": lambda got: {lease["host"] for lease in got} == {"web04"},
        "<tasks>": has_tasks,
        "<followed>": is_followed,
        "<kept>": lambda got: Lines.kept.setdefault("jid", got) == got,
    }

    @classmethod
    def setUpClass(cls):
        one = {"targets": ["web01"]}
        task = {"taskname": "shows", "tasktype": "task", "taskopts": {"word": "hi"}}
        for name, path, body in (
                ("SERVICE", "/service", dict(one, name="asked", state=0)),
                ("STOPPED", "/service", dict(one, name="asked", state=1)),
                ("RESTARTED", "/service", dict(one, name="asked", state=2, graceful=True)),
                ("DEPLOY", "/deploy", dict(one, role="r", extra_vars={"a": 1}, partial=["a", "b"])),
                ("TASK", "/tasks", dict(task, targets=["web01", "web02"])),
                ("FAILED", "/execute", dict(one, cmd="exit 1")),
                ("NOMATCH", "/execute", dict(targets=["web01", "nosuch"], cmd="true")),
                ("ENDED", "/execute", dict(one, cmd="echo data"))):
            cls.jids[name] = cls.ended(path, body)
        cls.jids["RUNNING"] = NODES[""].execute(["web04"], "sleep 600", lock="exclusive")
        wait_until(lambda: HOSTS.running("sleep 600"), 10, "it runs")

    @classmethod
    def tearDownClass(cls):
        NODES[""].post("/jobs/%s/cancel" % cls.jids["RUNNING"])
        NODES[""].wait_job(cls.jids["RUNNING"])

    @staticmethod
    def ended(path, body):
        jid = NODES[""].submit(path, body)
        NODES[""].wait_job(jid)
        return jid

    def name(self, name):
        return self.ended("/ping", {"targets": "web01"}) if name == "FRESH" else self.jids[name]

    def settle(self):
        """What the last request has begun must not be in the way of the next."""
        wait_until(lambda: {lease["host"] for lease in NODES[""].get("/leases").body} <= {"web04"}, 20, "hosts are free")


class ByAnsible(unittest.TestCase):
    """The same requests of operations to a node whose executor is ansible. Those that are refused need no run
    of it; the others take seconds each: one of them is asked, and all with EXED_TEST_SLOW only."""

    @classmethod
    def setUpClass(cls):
        cls.node = node = Exed(HOSTS, {"runner": {"executor": "ansible"}, "ssh": {"connect_timeout": "20s"}},
                               env={"HOME": "/nonexistent"})
        node.conf["inventory"]["path"] = NODES[""].conf["inventory"]["path"]
        node.conf["ansible"] = {"workdir": node.path("work")}
        put(node.path("work", "playbooks", "_deploy.yml"), PLAYBOOK)
        put(node.path("work", "playbooks", "roles", "r", "tasks", "main.yml"), "- ansible.builtin.ping:\n")
        cls.addClassCleanup(node.stop)
        node.start()

    def loosened(self, answer):
        """A record may have more: times, also of a ping."""
        if isinstance(answer, dict):
            more = {"...": True} if "status" in answer else {}
            return {**{key: self.loosened(value) for key, value in answer.items()}, **more}
        return answer

    def run_rows(self, wanted):
        count = 0
        for line in filter(lambda line: BY_ANSIBLE.fullmatch(line["line"]), LINES):
            for case in line.get("rows", ()):
                if "$" not in json.dumps(case) and wanted(case):
                    count += 1
                    with self.subTest(line["line"] + ": " + case["ask"]):
                        case = dict(case, answer=self.loosened(case.get("answer", "*")))
                        compat.run(case, self.node.port, str, Lines.checks)
                        wait_until(lambda: self.node.get("/leases").body == [], 60, "hosts are free")
        return count

    def test_what_is_refused(self):
        self.assertGreater(self.run_rows(lambda case: case["status"] >= 400), 15)

    def test_one_of_what_is_done(self):
        self.assertEqual(self.run_rows(lambda case: case["ask"] == "GET /execute?target=shut01,web01&cmd=true"), 1)

    @unittest.skipUnless(os.environ.get("EXED_TEST_SLOW"), "EXED_TEST_SLOW is not set")
    def test_what_is_done(self):
        self.assertGreater(self.run_rows(lambda case: case["status"] < 400 and "/service" not in case["ask"]), 12)


def add_lines():
    for number, line in enumerate(LINES):
        def test(self, line=line):
            for case in line.get("rows", ()):
                with self.subTest(case["ask"]):
                    compat.run(case, NODES[case.get("node", "")].port, self.name, self.checks)
                    self.settle()
        test.__doc__ = "%s %s: %s" % (line["tag"], line["line"], line["says"])
        words = re.sub(r"[^A-Za-z0-9]+", "_", line["line"]).strip("_")
        if line.get("rows"):
            setattr(Lines, "test_%02d_%s_%s" % (number, line["tag"], words), test)


add_lines()


class Whole(unittest.TestCase):
    """That no line is left out, and that what is said to be tested elsewhere is."""

    @staticmethod
    def functional_tests():
        """FILE.CLASS.NAME of all functional tests."""
        found = []
        for path in glob.glob(os.path.join(HERE, "test_*.py")):
            with open(path, encoding="utf-8") as f:
                tree = ast.parse(f.read())
            stem = os.path.basename(path)[len("test_"):-len(".py")]
            found += ["%s.%s.%s" % (stem, cls.name, item.name[len("test_"):])
                      for cls in tree.body if isinstance(cls, ast.ClassDef)
                      for item in cls.body if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")]
        return found

    def test_each_line_has_a_request_or_a_test(self):
        rows = ["exed: " + case["says"] for case in compat.load("exed")]
        known = self.functional_tests() + rows
        for line in LINES:
            self.assertIn(line["tag"], ("R", "S", "F", "X"), line["line"])
            self.assertTrue(line.get("rows") or line.get("by"), line["line"])
            for name in line.get("by", ()):
                self.assertTrue(fnmatch.filter(known, name.replace("[", "[[]")), "%s: there is no test %s" % (
                    line["line"], name))

    def test_no_line_is_left_out_or_twice(self):
        names = [line["line"] for line in LINES]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([name for name in names if name.startswith("5.")],
                         ["5.%d" % n for n in range(1, SETTLED + 1)])
        for word in ("GET /target", "GET /ping", "POST /ping", "GET /facter", "POST /facter", "GET /service",
                     "POST /service", "GET /execute", "POST /execute", "POST /deploy", "GET /tasks", "POST /tasks",
                     "POST /tasks {jid}", "/release", "GET /jobs", "GET /jobs/JID", "DELETE /jobs/JID"):
            self.assertIn("1 " + word, names)


if __name__ == "__main__":
    unittest.main()
