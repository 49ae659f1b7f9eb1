# SPDX-License-Identifier: MIT
"""The example requests of EXEd's README, in its order of operations: as they stand there but for a comma too
many before a bracket, and what it says that comes back. They are data, in compat/exed_readme.json. And what
doc/migration.md shows: a file of settings is taken, a plugin in Python and in Lua do the same on hosts."""

import json
import os
import re
import subprocess
import sys
import time
import types
import unittest
import uuid
from unittest import mock
from urllib.parse import quote

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import compat  # noqa: E402
from exedtest import Exed, Sshd, wait_until  # noqa: E402

NAMES = ("molten-core.0ops.io", "karazhan.0ops.io", "karazhan.1ops.io")
PROGRAMS = {
    "ifconfig": "#!/bin/sh\necho \"lo: flags=73 of $(cat \"${0%/*}/../name\")\"\n",
    "systemctl": """#!/bin/sh
echo "$*" >>"${0%/*}/../calls"
case $1 in
is-active) echo active ;;
show) echo LoadState=loaded ;;
restart) [ ! -f "${0%/*}/../$2.fails" ] ;;
esac
""",
    "lb": "#!/bin/sh\necho \"$*\" >>\"${0%/*}/../calls\"\n",
}

PLAYBOOKS = {
    "playbooks/_deploy.yml": """---
- name: "deploy {{ _role }} on remote host(s)."
  hosts: "{{ _targets }}"
  gather_facts: false
  roles:
    - "{{ _role }}"
  vars_files:
    - vars/common.yml
    - vars/others.yml
""",
    "playbooks/vars/common.yml": "server_name: common\n",
    "playbooks/vars/others.yml": "upstreams: [other]\n",
    "playbooks/roles/nginx/tasks/main.yml": """---
- name: install
  shell: "echo installed >$HOME/installed"
- name: reconfigure
  shell: "echo '{{ server_name }} {{ upstreams | join(' ') }}' >$HOME/nginx.conf"
  tags: [reconfig]
""",
}

ROLE = """#!/bin/sh
[ "$*" = reconfig ] || echo installed >$HOME/installed
echo "$server_name $(echo "$upstreams" | tr -d '[]"' | tr , ' ')" >$HOME/nginx.conf
"""


def is_uuid4(text):
    return isinstance(text, str) and str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4


def chapter(language):
    """The block in that language of the chapter for people who come from EXEd."""
    with open(os.path.join(ROOT, "doc", "migration.md"), encoding="utf-8") as f:
        return re.search("```%s\n(.*?)```" % language, f.read(), re.S)[1]


class Executor:
    """What a plugin of EXEd works with, as far as the chapter's one needs it, by GET requests to exed."""

    def __init__(self, exed):
        self.exed, self.hosts = exed, []

    def set_hosts(self, hosts):
        self.hosts = hosts if isinstance(hosts, list) else [hosts]

    def reset_hosts(self):
        self.hosts = []

    def ask(self, path):
        answer = self.exed.get(path + "&target=" + ",".join(self.hosts))
        assert answer.status == 200, answer.body
        for name, record in answer.body.items():
            yield {name: record}

    def raw_execute(self, cmd):
        return self.ask("/execute?cmd=" + quote(cmd))

    def service(self, name, start=True, restart=False, graceful=False):
        return self.ask("/service?name=%s&state=%d&graceful=%d" % (name, 2 if restart else int(not start), graceful))


class Prototype:
    """EXEd's base class of plugins."""

    def __init__(self, hosts, executor):
        self.hosts, self.executor = hosts, executor


def load_plugin():
    utils, task = types.ModuleType("exe.executor.utils"), types.ModuleType("exe.task")
    utils.compose_exec_returncontext = lambda state, name, data: {
        "status": state, "name": name, "return_data": data}
    task.TaskRunnerPrototype = Prototype
    stubs = {"exe": types.ModuleType("exe"), "exe.executor": types.ModuleType("exe.executor"),
             "exe.executor.utils": utils, "exe.task": task}
    names = {}
    with mock.patch.dict(sys.modules, stubs):
        exec(compile(chapter("python"), "migration.md", "exec"), names)  # pylint: disable=exec-used
    return names["RestartInTurn"]


class Readme(unittest.TestCase):
    checks = {
        "<uuid>": is_uuid4,
        "<jids>": lambda got: isinstance(got, list) and bool(got) and all(map(is_uuid4, got)),
        "<state>": lambda got: got in (0, 1),
        "<time>": lambda got: isinstance(got, int) and abs(got - time.time()) < 600,
        "<facts>": lambda got: isinstance(got, dict) and got["kernel"] == "Linux",
    }

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(len(NAMES))
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        for host, name in zip(cls.sshd.hosts, NAMES):
            os.makedirs(host.dir + "/bin")
            for program, text in dict(PROGRAMS, **{"../name": name.split(".")[0] + "\n"}).items():
                with open(os.path.join(host.dir, "bin", program), "w", encoding="utf-8") as f:
                    f.write(text)
                os.chmod(f.name, 0o755)
        cls.exed = cls.start()

    @classmethod
    def start(cls, conf=None, start=True):
        exed = Exed(cls.sshd, conf)
        text = cls.sshd.inventory_text()
        for host, name in zip(cls.sshd.hosts, NAMES):
            text = text.replace(host.name + " ", name + " ")
        exed.conf["inventory"]["path"] = exed.write("hosts.ini", text)
        tasks = exed.path("modules", "tasks")
        os.makedirs(tasks, mode=0o755)
        with open(os.path.join(tasks, "restart_in_turn.lua"), "w", encoding="utf-8") as f:
            f.write(chapter("lua"))
        exed.conf.setdefault("runner", {})["modules"] = os.path.dirname(tasks)
        cls.addClassCleanup(exed.stop)
        return exed.start() if start else exed

    def ask(self, lines, jid="", exed=None):
        """Sends a request as it is written; returns status, reason, type and answer."""
        exed = exed or self.exed
        head, _, body = "\n".join(lines).replace("$JID", jid).partition("\n\n")
        body = re.sub(r",(\s*[\]}])", r"\1", body)
        head = head.split("\n")
        head.insert(1, "Host: 127.0.0.1:%d" % exed.port)
        if body:
            head.append("Content-Length: %d" % len(body))
        raw = exed.raw(("\r\n".join(head + ["Connection: close", "", ""]) + body).encode(), 30)
        top, _, answer = raw.decode().partition("\r\n\r\n")
        status, reason = re.match(r"HTTP/1.1 (\d+) ([^\r]*)", top).groups()
        fields = {key.lower(): value for key, value in re.findall(r"\r\n([^:]+): ([^\r]*)", top)}
        if fields.get("transfer-encoding") == "chunked":
            answer = self.chunks(answer)
        return int(status), reason, fields, answer

    @staticmethod
    def chunks(text):
        found, at = "", 0
        while True:
            end = text.index("\r\n", at)
            size = int(text[at:end], 16)
            if size == 0:
                return found
            found, at = found + text[end + 2:end + 2 + size], end + 2 + size + 2

    def fits(self, want, got, what):
        problem = compat.misfit(want, got, self.checks)
        self.assertIsNone(problem, what)

    def test_examples(self):
        jid = None
        for case in compat.load("exed_readme"):
            if "deploys" in case:
                continue  # deploy_examples
            with self.subTest(case["says"]):
                status, reason, fields, answer = self.ask(case["request"], jid or "")
                self.assertEqual(status, case["status"], answer)
                if "type" in case:
                    self.assertEqual(fields["content-type"], case["type"])
                    answer = json.loads(answer)
                self.fits(case["answer"], answer, case["says"])
                if status == 201:
                    self.assertEqual(reason, "Created")
                    jid = answer["jid"]
                    self.check_job(case, self.exed.wait_job(jid))
        self.assertEqual(self.sshd.hosts[0].read("calls").count("reload nginx"), 2)

    def check_job(self, case, job):
        self.assertEqual((job["state"], job["error"]), (0, ""), job["return_data"])
        self.assertEqual(sorted(job["targets"]), sorted(NAMES[:2]))
        for name, want in case["job"].items():
            self.assertEqual(job[name], want)
        self.fits({name: [record] for name, record in case["records"].items()}, job["return_data"], case["says"])

    # ---- deploy: by ansible, as it was, and over ssh ----

    @staticmethod
    def write_all(exed, files):
        for name, text in files.items():
            path = exed.path("work", name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)

    def test_examples_of_deploy_over_ssh(self):
        exed = self.start({"api": {"state_alias": "true"}}, start=False)
        self.write_all(exed, {"roles/nginx/deploy.sh": ROLE})
        exed.conf["ssh"]["roles"] = exed.path("work", "roles")
        self.deploy_examples(exed.start())

    def test_examples_of_deploy_by_ansible(self):
        """With the files of the README: the playbook _deploy.yml, and a role."""
        exed = self.start({"api": {"state_alias": "true"}, "runner": {"executor": "ansible"}}, start=False)
        self.write_all(exed, PLAYBOOKS)
        exed.conf["ansible"] = {"workdir": exed.path("work"), "playbooks": "playbooks"}
        exed.extra_env.update(ANSIBLE_HOST_KEY_CHECKING="False", ANSIBLE_RETRY_FILES_ENABLED="False",
                              ANSIBLE_CONFIG=exed.write("ansible.cfg", "[defaults]\n"), ANSIBLE_HOME=exed.path("ansible"),
                              ANSIBLE_PYTHON_INTERPRETER=sys.executable)
        self.deploy_examples(exed.start())

    def deploy_examples(self, exed):
        deploy, follow = [case for case in compat.load("exed_readme") if "deploys" in case]
        for host in self.sshd.hosts:
            for name in ("nginx.conf", "installed"):
                with open(os.path.join(host.dir, name), "w", encoding="utf-8"):
                    pass
        status, _, _, answer = self.ask(deploy["request"], exed=exed)
        self.assertEqual(status, 201, answer)
        self.fits(deploy["answer"], json.loads(answer), answer)
        self.check_job(deploy, exed.wait_job(json.loads(answer)["jid"], 60))
        for host in self.sshd.hosts[:2]:
            self.assertEqual(host.read("nginx.conf"), "exe.0ops.io 127.0.0.1:8080 127.0.0.1:8081\n")
            self.assertEqual(host.read("installed"), "", "only what has the tag")
        self.follow_deploy(follow, exed)

    def follow_deploy(self, case, exed):
        jid = exed.submit("/deploy", case["before"])
        status, _, fields, answer = self.ask(case["request"], jid, exed)
        self.assertEqual((status, fields["transfer-encoding"]), (case["status"], "chunked"))
        job, *chunks = [json.loads(line) for line in answer.splitlines()]
        self.fits(case["follow"], job, "job")
        found = {}
        for chunk in chunks:
            (host, record), = chunk.items()
            self.fits(case["chunks"][host], record, chunk)
            found.setdefault(host, []).append(record["name"])
        self.assertEqual(set(found), set(case["chunks"]))

    # ---- the chapter ----

    def test_a_file_of_settings_is_taken(self):
        where = self.exed.path("old")
        os.makedirs(where)
        with open(where + "/exed.conf", "w", encoding="utf-8") as f:
            f.write(chapter("ini"))
        with open(where + "/hosts", "w", encoding="utf-8") as f:
            f.write("molten-core.0ops.io\n")
        done = subprocess.run([self.exed.program, "-t", "-c", "exed.conf"], cwd=where, text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        self.assertEqual((done.returncode, done.stdout), (0, "exed.conf: ok\n"), done.stderr)
        self.assertEqual(done.stderr.count("broker_url"), 1, done.stderr)
        self.assertIn("broker_url is not needed", done.stderr)

    def test_an_old_plugin_s_type_goes_on_when_its_file_says_so(self):
        path = self.exed.path("modules", "tasks", "restart_in_turn.lua")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.addCleanup(self.write_and_wait, path, text, "task")
        self.write_and_wait(path, text.replace("  summary =", '  type = "restart_in_turn", summary ='), "restart_in_turn")
        body = {"targets": [NAMES[0]], "taskname": "restart_in_turn", "taskopts": {
            "service": "nginx", "drain": "lb drain", "restore": "lb restore"}}
        answer = self.exed.post("/tasks", dict(body, tasktype="restart_in_turn"))
        self.assertEqual(answer.status, 201, answer.body)
        job = self.exed.wait_job(answer.body["jid"])
        self.assertEqual((job["state"], job["operate_args"]["tasktype"]), (0, "restart_in_turn"))
        self.assertEqual(self.exed.post("/tasks", dict(body, tasktype="task")).status, 404)

    def write_and_wait(self, path, text, kind):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        wait_until(lambda: {task["name"]: task["type"] for task in self.exed.get("/tasks").body}.get("restart_in_turn")
                   == kind, 20, "the file is live")

    def test_a_host_key_that_ansible_would_not_have_looked_at_is_told(self):
        exed = Exed(self.sshd, {"runner": {"executor": "ansible"}}, env={"ANSIBLE_HOST_KEY_CHECKING": "False"})
        self.addCleanup(exed.stop)
        exed.args.append("-t")
        code, output = exed.run_to_end()
        self.assertEqual(code, 0, output)
        self.assertIn("ANSIBLE_HOST_KEY_CHECKING is not looked at: [ssh] host_key_checking is strict", output)
        exed.args.remove("-t")
        exed.start()
        self.assertIn("ANSIBLE_HOST_KEY_CHECKING is not looked at", exed.log(100000))

    def calls(self):
        """What the hosts were asked to change since the last time."""
        found = {}
        for host, name in zip(self.sshd.hosts, NAMES):
            found[name] = [line for line in host.read("calls").splitlines() if line.split()[0] in (
                "drain", "restore", "restart", "start", "stop")]
            open(host.dir + "/calls", "w", encoding="utf-8").close()
        return found

    def run_lua(self, service):
        answer = self.exed.post("/tasks", {"targets": list(NAMES), "taskname": "restart_in_turn", "taskopts": {
            "service": service, "drain": "lb drain", "restore": "lb restore"}})
        self.assertEqual(answer.status, 201, answer.body)
        return self.exed.wait_job(answer.body["jid"])

    def run_python(self, service):
        """What the plugin yields, {host: [(name, status), ...]}, and what it raised."""
        found, raised = {}, None
        try:
            for yielded in load_plugin()(list(NAMES), Executor(self.exed)).run_task(service, "lb drain", "lb restore"):
                for host, context in yielded.items():
                    found.setdefault(host, []).append((context["name"], context["status"]))
        except RuntimeError as err:
            raised = str(err)
        return found, raised

    def test_a_plugin_in_python_and_in_lua(self):
        self.calls()
        yielded, _ = self.run_python("nginx")
        by_python = self.calls()
        job = self.run_lua("nginx")
        self.assertEqual((job["state"], self.calls()), (0, by_python))
        self.assertEqual(by_python, {name: ["drain", "restart nginx", "restore"] for name in NAMES})
        steps = {host: [(r["name"], r["status"]) for r in records[:-1]] for host, records in job["return_data"].items()}
        self.assertEqual(steps, yielded)

    def test_a_plugin_in_python_and_in_lua_when_a_host_fails(self):
        open(self.sshd.hosts[1].dir + "/mysql.fails", "w", encoding="utf-8").close()
        self.calls()
        _, raised = self.run_python("mysql")
        self.assertEqual(raised, "restart failed on " + NAMES[1])
        self.assertEqual(list(self.calls().values()), [["drain", "restart mysql", "restore"], ["drain", "restart mysql"], []])
        job = self.run_lua("mysql")
        self.assertEqual(job["state"], 2)
        self.assertEqual(list(self.calls().values()), [["drain", "restart mysql", "restore"]] * 2 + [[]])
        self.assertEqual([job["return_data"][name][-1]["status"] for name in NAMES], [5, 3, 2])


if __name__ == "__main__":
    unittest.main()
