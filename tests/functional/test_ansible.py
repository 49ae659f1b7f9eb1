# SPDX-License-Identifier: MIT
"""The executor ansible on real sshd hosts: each operation's records, a role with tags and variables, what a
client says is data and never a template, and nothing of a run that was ended is left. A run of Ansible takes
seconds, so the tests are few and look at many things each."""

import base64
import os
import shutil
import signal
import sys
import unittest
from urllib.parse import urlencode

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, alive, wait_until  # noqa: E402
from exedtest.procs import children_of, command_line  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5
LIMIT = 240  # seconds that a job may take on a busy machine
KILLED = {"killed": True, "survivors": 0, "killed_by": "session, tree, op id, output"}

DEPLOY = """
- name: "deploy {{ _role }}"
  hosts: "{{ _targets }}"
  gather_facts: false
  roles: ["{{ _role }}"]
"""
ROLE = """
- name: write
  ansible.builtin.shell: |
    if [ -f "{{ dir }}/deployed" ]; then echo as it was
    else printf %s {{ content | quote }} >"{{ dir }}/deployed"; fi
  vars:
    content: "{{ text }}|{{ names | join(',') }}|{{ note }}|{{ table | dict2items }}|{{ _role }}"
  register: wrote
  changed_when: wrote.stdout == ""
  tags: [config]
  when: inventory_hostname != "web03"
- when: inventory_hostname != "web03"
  block:
    - name: ignored
      ansible.builtin.command: "false"
      ignore_errors: true
    - block:
        - name: rescued
          ansible.builtin.command: "false"
      rescue:
        - name: rescue
          ansible.builtin.command: "true"
          changed_when: false
    - name: bad
      ansible.builtin.shell: echo not so >&2; exit 4
      when: inventory_hostname == "web02"
"""
SLOW_ROLE = """
- name: bad
  ansible.builtin.command: "false"
  when: inventory_hostname == "web01"
- name: wait
  ansible.builtin.shell: "until [ -f $EXED_TEST_DIR/go ]; do sleep 0.1; done"
"""
# Stands in for the modules of service managers, of which no host of this machine runs one.
MANAGER = """#!/usr/bin/python3
import os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec=dict(name=dict(), state=dict(), enabled=dict(type="bool")))
name, state = module.params["name"], module.params["state"]
if name == "broken":
    module.fail_json(msg="no such unit")
path = os.path.join(os.environ["EXED_TEST_DIR"], name)
was = open(path).read() if os.path.exists(path) else "stopped"
now = "started" if state in ("restarted", "reloaded") else state
with open(path, "w") as f:
    f.write(now)
module.exit_json(changed=was != now or state in ("restarted", "reloaded"))
"""


def evil(path):
    """A template that would run a program on the node."""
    return "{{ lookup('pipe', 'touch %s') }}{%% set x = lookup('pipe', 'touch %s') %%}" % (path, path)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(4).start()
        cls.addClassCleanup(cls.sshd.stop)
        cls.exed = cls.new_exed()
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    @classmethod
    def new_exed(cls, env=None, **ansible):
        exed = Exed(cls.sshd, {
            "runner": {"executor": "ansible", "concurrency": 4},
            "ssh": {"agent": "none", "connect_timeout": "20s"},
        }, env=dict({"HOME": "/nonexistent", "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}, **(env or {})))
        exed.conf["ansible"] = dict({"workdir": exed.path("work")}, **ansible)
        cls.fill(exed)
        return exed

    @classmethod
    def fill(cls, exed):
        """A working directory, the modules of service managers, and an inventory with more to it."""
        cls.evil = exed.path("evil")
        files = {"playbooks/_deploy.yml": DEPLOY, "playbooks/roles/app/tasks/main.yml": ROLE,
                 # Would make everything fail, were it read.
                 "ansible.cfg": "[defaults]\nremote_user = nobody\nlibrary = /nonexistent\n[privilege_escalation]\nbecome = true\n"}
        files.update({"library/%s.py" % name: MANAGER for name in ("service", "systemd", "sysvinit")})
        for name, text in files.items():
            path = exed.path("work", *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        exed.extra_env["ANSIBLE_LIBRARY"] = exed.path("work", "library")
        lines = [line + " dir=%s" % host.dir for host, line in
                 zip(cls.sshd.hosts, cls.sshd.inventory_text().splitlines()[1:])]
        text = "[web]\n%s\n[others]\ngone ansible_host=127.0.1.1 ansible_port=1\n[all:vars]\nnote=\"%s\"\n" % (
            "\n".join(lines), evil(cls.evil))
        exed.conf["inventory"]["path"] = exed.write("hosts.ini", text)

    def tearDown(self):
        self.assertFalse(os.path.exists(self.evil), "a template ran on the node")

    def get(self, path, **query):
        answer = self.exed.get(path + "?" + urlencode(query), timeout=LIMIT)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body

    def records(self, jid):
        found = self.exed.records(jid, LIMIT)
        self.assertTrue(all(len(rows) == 1 for rows in found.values()), found)
        return {host: rows[0] for host, rows in found.items()}

    def post(self, path, **body):
        return self.records(self.exed.submit(path, body))

    def has(self, record, **want):
        self.assertEqual({name: record.get(name) for name in want}, want, record)

    def runs(self):
        """Our processes of Ansible."""
        return [pid for pid in children_of(self.exed.pid)
                if "ansible-playbook" in command_line(pid)]

    def nothing_left(self):
        wait_until(lambda: not self.runs(), 60, "no ansible runs")
        wait_until(lambda: not self.sshd.running(), 60, "nothing runs on the hosts")
        work = os.path.join(self.exed.state, "ansible")
        wait_until(lambda: not os.path.isdir(work) or not os.listdir(work), 60, "no file of a run is left")


class Operations(Case):
    def test_ping_and_facter(self):
        found = self.get("/ping", target="web01,gone,nosuch", timeout="200s")
        self.assertEqual(set(found["web01"]), {"status", "started", "seconds"})
        self.has(found["web01"], status=OK)
        self.has(found["nosuch"], status=-1)
        self.has(found["gone"], status=UNREACHABLE)
        self.assertTrue(found["gone"]["error"])
        found = self.get("/facter", target="web02", timeout="200s")["web02"]
        self.has(found, status=OK)
        self.assertEqual(found["facts"]["ansible_system"], "Linux")

    def test_execute_gives_what_the_command_gave(self):
        mark = evil(self.evil)
        found = self.post("/execute", targets="web", cmd="""
            case $EXED_TEST_HOST in
            web01) printf '%s' "$(cat <<'END'
""" + mark + """
END
)"; printf '\\377\\n' ;;
            web02) echo out; echo err >&2; exit 3 ;;
            web03) exec kill -9 $$ ;;
            web04) seq 30000; echo "$EXED_OP" >&2 ;;
            esac""")
        said = mark.encode() + b"\xff\n"
        self.has(found["web01"], status=CHANGED, rtc=0, stdout=mark + "\ufffd\n", stderr="")
        self.assertEqual(base64.b64decode(found["web01"]["stdout_b64"]), said)
        self.has(found["web02"], status=FAILED, rtc=3, stdout="out\n", stderr="err\n")
        self.has(found["web03"], status=FAILED, rtc=137, signal="KILL")
        whole = "".join("%d\n" % i for i in range(1, 30001))
        self.has(found["web04"], status=CHANGED, stdout=whole, stdout_bytes=len(whole))
        self.assertRegex(found["web04"]["stderr"], r"^[0-9a-f-]{36}\.0\.3\.1\n$")
        self.nothing_left()

    def test_service(self):
        want = [("started", CHANGED, "started"), ("0", OK, "started"), ("2", CHANGED, "started")]
        for state, status, now in want:
            found = self.get("/service", target="web01", name="app", state=state)["web01"]
            self.assertEqual(set(found), {"status", "started", "seconds"})
            self.has(found, status=status)
            self.assertEqual(self.sshd.host["web01"].read("app"), now)
        found = self.get("/service", target="web01", name="broken", state=1)["web01"]
        self.has(found, status=FAILED, error="no such unit")
        answer = self.exed.get("/service?" + urlencode({"target": "web01", "state": 0, "name": evil(self.evil)}))
        self.assertEqual((answer.status, answer.body), (400, {"message": "bad service name or state"}))

    def test_a_task_runs_by_ansible(self):
        tasks = self.exed.path("modules", "tasks")
        os.makedirs(tasks, exist_ok=True)
        with open(os.path.join(tasks, "look.lua"), "w", encoding="utf-8") as f:
            f.write("""return { summary = "look", run = function(job)
              for _, host in ipairs(job.hosts) do
                local r = host:execute('echo "$WORD"; cat; pwd', {
                  env = { WORD = "{{ 6 * 7 }}" }, cwd = "/", stdin = "in\\n", changes = false })
                job:say(r.stdout)
              end
            end }""")
        wait_until(lambda: any(task["name"] == "look" for task in self.exed.get("/tasks").body), 20, "the task is known")
        jid = self.exed.submit("/tasks", {"taskname": "look", "targets": "web02"})
        rows = self.exed.records(jid, LIMIT)["web02"]
        self.assertIn("{{ 6 * 7 }}\nin\n/\n", [row.get("stdout") for row in rows], rows)


class Deploy(Case):
    BODY = {"role": "app", "extra_vars": {"names": ["b"], "text": "t", "table": {}}}

    def deploy(self, **more):
        return self.exed.post("/deploy", dict(self.BODY, targets="web", **more))

    def test_a_role_with_variables_and_with_tags(self):
        bad = evil(self.evil)
        told = {"text": bad, "names": [bad, 2], "table": {"k": bad}}
        jid = self.exed.submit("/deploy", {"targets": "web[01:03]", "role": "app", "lines": True, "extra_vars": told})
        rows = [entry for entry in self.exed.follow(jid, LIMIT) if "targets" not in entry]
        lines = "".join(row["web01"]["lines"] for row in rows if "lines" in row.get("web01", ()))
        found = {host: record for row in rows for host, record in row.items() if "status" in record}
        self.has(found["web01"], status=CHANGED, name="app", stdout=lines, return_data=lines)
        self.assertEqual(lines.splitlines(), [
            "changed: app : write", "ignored: app : ignored: non-zero return code",
            "failed: app : rescued: non-zero return code", "ok: app : rescue", "skipped: app : bad"])
        self.has(found["web02"], status=FAILED, name="app", error="not so")
        self.has(found["web03"], status=SKIPPED)
        text = self.sshd.host["web01"].read("deployed")
        self.assertEqual(text.count("{{ lookup"), 4, text)  # three of the client's, one of the inventory's
        self.assertTrue(text.endswith("|app"), text)
        # Again, only a part of it: nothing changes.
        jid = self.exed.submit("/deploy", {"targets": "web01", "role": "app", "partial": ["config"], "extra_vars": told})
        self.has(self.records(jid)["web01"], status=OK, return_data="ok: app : write\n")
        job = self.exed.job(jid)
        self.assertEqual((job["state"], job["operate_args"]), (0, {"role": "app", "partial": ["config"], "extra_vars": told}))
        self.nothing_left()

    def test_a_record_comes_when_its_host_is_done(self):
        """Two at once: web01 fails while web02 waits; then web02 is done, and web03 waits."""
        role = self.exed.path("work", "playbooks", "roles", "slow", "tasks", "main.yml")
        os.makedirs(os.path.dirname(role))
        with open(role, "w", encoding="utf-8") as f:
            f.write(SLOW_ROLE)
        self.addCleanup(self.exed.write, "work/playbooks/_deploy.yml", DEPLOY)
        self.exed.write("work/playbooks/_deploy.yml", DEPLOY + "  serial: 2\n")
        jid, seen = self.exed.submit("/deploy", {"targets": "web[01:03]", "role": "slow"}), []
        for entry in self.exed.follow(jid, LIMIT):
            for host in set(entry) & set(self.sshd.host):
                seen.append((host, entry[host]["status"], entry[host]["name"]))
                if host != "web03":
                    with open(os.path.join(self.sshd.host["web0%d" % (len(seen) + 1)].dir, "go"), "w", encoding="utf-8"):
                        pass
        self.assertEqual(seen, [("web01", FAILED, "slow"), ("web02", CHANGED, "slow"), ("web03", CHANGED, "slow")])

    def test_what_ansible_cannot_do_is_said(self):
        found = self.post("/deploy", targets="web01", role="nosuch")["web01"]
        self.has(found, status=FAILED)
        self.assertIn("the role 'nosuch' was not found", found["error"])
        found = self.post("/deploy", targets="web01", role="app", partial=["nosuch"])["web01"]
        self.has(found, status=FAILED, error="ansible did nothing on this host: no task of the play was for it")

    def test_a_dry_run_says_what_ansible_would_be_asked(self):
        body = dict(self.BODY, targets=["web01", "web02"], partial=["config"], dry_run=True)
        answer = self.exed.post("/deploy", body)
        self.assertEqual(answer.status, 200, answer.body)
        plan = answer.body["plan"]
        self.assertRegex(plan["command"], r"^ansible-playbook \S*playbooks/_deploy\.yml --tags config$")
        self.assertEqual((plan["executor"], plan["window"], plan["lock"]), ("ansible", 4, "exclusive"))
        self.assertEqual([(step["host"], step["op"], step["what"]) for step in plan["steps"]],
                         [("web01", "deploy", "app"), ("web02", "deploy", "app")])
        answer = self.exed.get("/execute?target=web01&cmd=true&dry_run=1")
        self.assertIn("ansible.builtin.shell", answer.body["plan"]["command"])
        self.assertEqual(self.runs(), [])

    def test_bad_requests(self):
        bad = evil(self.evil)
        for more, message in (
                ({"role": 5}, "role should be string types"), ({"role": ""}, "role should be string types"),
                ({"role": bad}, "role: the name of a role"), ({"role": "../app"}, "role: the name of a role"),
                ({"role": "-x"}, "role: the name of a role"),
                ({"partial": "config"}, "partial should be string list or omitted"),
                ({"partial": [1]}, "partial should be string list or omitted"),
                ({"partial": [bad]}, "partial: a tag is made of"), ({"partial": ["a,b"]}, "partial: a tag is made of"),
                ({"extra_vars": []}, "extra vars should be an json object or omitted"),
                ({"extra_vars": {"ansible_connection": "local"}}, "extra_vars: ansible_connection is"),
                ({"extra_vars": {"_targets": "all"}}, "extra_vars: _targets is"),
                ({"extra_vars": {"hostvars": {}}}, "extra_vars: hostvars is"),
                ({"extra_vars": {"x": {bad: 1}}}, "extra_vars: no name in an object may hold"),
                ({"extra_vars": {"x": [{"__ansible_vault": "1"}]}}, "extra_vars: no name in an object may hold"),
                ({"extra_vars": {"a b": 1}}, "extra_vars: a variable's name is"),
                ({"fence": True}, "executor ansible has no fence")):
            answer = self.exed.post("/deploy", dict(self.BODY, targets="web", **{k: v for k, v in more.items()}))
            self.assertEqual(answer.status, 400, (more, answer.body))
            self.assertTrue(answer.body["message"].startswith(message), (more, answer.body))
        answer = self.exed.post("/deploy", dict(self.BODY, targets=[bad]))
        self.assertIn(answer.status, (400, 404), answer.body)

    def test_a_playbook_or_an_ansible_that_is_missing(self):
        path = self.exed.path("work", "playbooks", "_deploy.yml")
        os.rename(path, path + ".away")
        try:
            answer = self.deploy()
            self.assertEqual((answer.status, answer.body), (400, {
                "message": "there is no playbook %s, which the ansible executor runs for deploy" % path}))
        finally:
            os.rename(path + ".away", path)
        bare = self.exed.path("bare")
        os.makedirs(bare)
        os.symlink(shutil.which("redis-server"), os.path.join(bare, "redis-server"))
        looked = self.new_exed({"PATH": bare})
        self.addCleanup(looked.forget)
        looked.args.append("-t")
        code, output = looked.run_to_end()
        self.assertEqual(code, 0, output)
        self.assertIn("[runner] executor: ansible-playbook is not installed on this node", output)
        with self.new_exed({"PATH": bare}) as other:
            answer = other.get("/ping?target=web01")
            self.assertEqual(answer.status, 503, answer.body)
            self.assertIn("ansible-playbook is not installed on this node", answer.body["message"])
            self.assertEqual(other.get("/ping?target=web01&executor=ssh").body["web01"]["status"], OK)


class Ends(Case):
    """What ends a run of Ansible from outside."""

    def start(self, **more):
        """A job in which web01 waits for the file `go`; all note that they ran. Returns when it waits."""
        jid = self.exed.submit("/execute", dict({
            "targets": "web[01:02]",
            "cmd": "echo x >>$EXED_TEST_DIR/ran; : SECRET; [ $EXED_TEST_HOST = web02 ] || "
                   "while [ ! -f $EXED_TEST_DIR/go ]; do sleep 0.2; done"}, **more))
        wait_until(lambda: self.sshd.host["web01"].read("ran"), 120, "web01 runs")
        return jid

    def setUp(self):
        for host in self.sshd.hosts:
            for name in ("ran", "go"):
                if os.path.exists(os.path.join(host.dir, name)):
                    os.unlink(os.path.join(host.dir, name))

    def ran(self):
        return {host.name: host.read("ran") for host in self.sshd.hosts[:2]}

    def test_cancel(self):
        jid, seen = self.start(), {}
        for entry in self.exed.follow(jid, LIMIT):
            if "web02" in entry:  # its record comes while the other runs
                self.assertFalse(any("SECRET" in command_line(pid) for pid in self.runs()))
                self.exed.post("/jobs/%s/cancel" % jid, {})
            seen.update({host: record for host, record in entry.items() if host in ("web01", "web02")})
        self.has(seen["web02"], status=CHANGED, rtc=0)
        self.has(seen["web01"], status=FAILED, cancelled=True, error="cancelled", **KILLED)
        self.assertEqual(self.exed.job(jid)["error"], "cancelled")
        self.nothing_left()

    def test_a_time_limit(self):
        found = self.post("/execute", targets="web01", timeout="2s", cmd="sleep 600 & setsid sleep 600 & sleep 600")
        self.has(found["web01"], status=FAILED, rtc=124, timed_out=True, **KILLED)
        self.nothing_left()

    def test_a_crash_accounts_for_every_host(self):
        jid = self.start(window=1)
        for pid in self.runs():
            os.kill(pid, signal.SIGKILL)
        found = self.records(jid)
        self.has(found["web01"], status=FAILED, unknown=True, **KILLED)
        self.has(found["web02"], status=FAILED, unknown=None)
        for record in found.values():
            self.assertIn("ansible ended by signal KILL", record["error"])
        self.assertEqual(self.ran(), {"web01": "x\n", "web02": ""})
        self.nothing_left()

    def test_a_node_that_died_runs_nothing_twice(self):
        jid, runs = self.start(window=1), self.runs()
        self.assertTrue(runs)
        old = os.path.join(self.exed.state, "ansible", "another")
        os.makedirs(old)
        self.exed.kill9()
        wait_until(lambda: not any(alive(pid) for pid in runs), 60, "its ansible ends by itself")
        self.exed.start()
        wait_until(lambda: self.sshd.host["web02"].read("ran"), 120, "web02, which had not started, is run")
        with open(os.path.join(self.sshd.host["web01"].dir, "go"), "w", encoding="utf-8"):
            pass
        found = self.records(jid)
        self.has(found["web01"], status=FAILED, unknown=True)
        self.has(found["web02"], status=CHANGED, rtc=0)
        self.assertEqual(self.ran(), {"web01": "x\n", "web02": "x\n"})
        self.nothing_left()


if __name__ == "__main__":
    unittest.main()
