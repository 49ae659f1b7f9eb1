# SPDX-License-Identifier: MIT
"""Releases on real sshd hosts, by what is in their own directories: git, archive and directory; the same
again; ?; back; a bad revision on 20 hosts, also when the node is killed in the middle of it."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402

DONE, RUNNING, FAILURE = 0, 1, 2
OK, SKIPPED, FAILED, CHANGED = 1, 2, 3, 5
HOSTS = 20
BUSYBOX = "web02"  # all that it has is busybox, and git: no curl, but a wget
FEW = "web[01:02]"


def git(where, *words):
    return subprocess.run(["git", "-C", where, "-c", "user.name=t", "-c", "user.email=t@example.net", *words],
                          check=True, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL).stdout.strip()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Release(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(HOSTS, bare=[BUSYBOX])
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.busybox(cls.sshd.host[BUSYBOX].dir)
        cls.builds = cls.sshd.path("builds")
        os.makedirs(cls.builds)
        cls.exed = Exed(cls.sshd, {"tasks": {"local_files": cls.builds}})
        os.makedirs(cls.exed.path("modules", "tasks"), mode=0o755)
        with open(os.path.join(ROOT, "doc", "releases.md"), encoding="utf-8") as f:
            task = re.search("```lua\n(.*?)```", f.read(), re.S)[1]
        with open(cls.exed.path("modules", "tasks", "release_shop.lua"), "w", encoding="utf-8") as f:
            f.write(task.replace("/builds/", cls.builds + "/"))
        cls.exed.conf["runner"] = {"modules": cls.exed.path("modules")}
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start(limit=30)
        cls.numbers = iter(range(1000))

    @staticmethod
    def busybox(home):
        os.makedirs(home + "/bin")
        listed = subprocess.run(["busybox", "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        for name in listed:
            os.symlink(shutil.which("busybox"), home + "/bin/" + name)
        os.symlink(shutil.which("git"), home + "/bin/git")

    def setUp(self):
        self.app = "app%d" % next(self.numbers)

    # ---- builds ----

    def archive(self, revision, text=None, **files):
        path = os.path.join(self.builds, "%s-%s.tar.gz" % (self.app, revision))
        tree = os.path.join(self.builds, self.app + "-" + revision)
        os.makedirs(tree + "/log")
        for name, content in {"what": text or revision, **files}.items():
            with open(os.path.join(tree, name), "w", encoding="utf-8") as f:
                f.write(content)
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tree, "top")
        return path

    def release(self, revision="v1", targets=FEW, **opts):
        body = {"targets": targets, "appname": self.app, "apptype": "archive", "revision": revision}
        for name in ("apptype", "rollback", "dry_run"):
            if name in opts:
                body[name] = opts.pop(name)
        if revision is None:
            del body["revision"]
        opts.setdefault("base", "~/srv")
        if revision != "?" and not body.get("rollback") and body["apptype"] == "archive":
            opts.setdefault("source", os.path.join(self.builds, self.app + "-{revision}.tar.gz"))
            opts.setdefault("strip", 1)
        return self.exed.post("/release", {**body, "extra_opts": opts})

    def run_release(self, *args, state=DONE, **opts):
        answer = self.release(*args, **opts)
        self.assertEqual(answer.status, 201, answer.body)
        job = self.exed.wait_job(answer.body["jid"], 120)
        self.assertEqual(job["state"], state, (job["error"], self.outcomes(job)))
        return job

    def outcomes(self, job):
        return {host: (records[-1]["status"], records[-1]["return_data"])
                for host, records in sorted(job["return_data"].items())}

    # ---- hosts ----

    def path(self, host, *parts):
        return os.path.join(self.sshd.host[host].dir, "srv", self.app, *parts)

    def read(self, host, *parts):
        with open(self.path(host, *parts), encoding="utf-8") as f:
            return f.read()

    def live(self, names=("web01", "web02")):
        """What is live, by host: the name of the release, and what its file says."""
        found = {}
        for name in names:
            link = self.path(name, "current")
            found[name] = os.path.lexists(link) and (os.path.basename(os.readlink(link)),
                                                     self.read(name, "current", "what"))
        return found

    def all_live(self, *what, names=("web01", "web02")):
        self.assertEqual(self.live(names), {name: what for name in names})

    def releases(self, host):
        return sorted(os.listdir(self.path(host, "releases")))

    # ---- tests ----

    def test_archive_again_ask_and_back(self):
        for revision in ("v1", "v2"):
            self.archive(revision, log_level="info")
        opts = {"shared": ["log/", "log_level"], "before": "printf '%s ' before $RELEASE_NAME >>$HOME/$RELEASE_APP.did",
                "after": "printf '%s ' after $RELEASE_LIVE $(basename $PWD) >>$HOME/$RELEASE_APP.did",
                "health": "test -e what"}
        job = self.run_release("v1", **opts)
        self.assertEqual(self.outcomes(job)["web02"], (CHANGED, "v1 is live, before it was nothing"))
        self.assertEqual(job["value"], {"hosts": 2, "switched": 2, "failed": 0})
        self.all_live("v1", "v1")
        for name in ("web01", BUSYBOX):
            self.assertEqual(os.path.realpath(self.path(name, "current", "log")),
                             os.path.realpath(self.path(name, "shared", "log")))
            with open(self.path(name, "shared", "log_level"), "w", encoding="utf-8") as f:
                f.write("debug")
        job = self.run_release("v1", **opts)
        self.assertEqual(self.outcomes(job)["web01"], (OK, "v1 is live already"))
        self.run_release("v2", **opts)
        self.all_live("v2", "v2")
        self.assertEqual(self.read(BUSYBOX, "current", "log_level"), "debug")
        job = self.run_release("?")
        self.assertEqual(self.outcomes(job), {name: (OK, "v2") for name in ("web01", "web02")})
        self.assertEqual(job["return_data"]["web01"][0]["return_data"], "v2\n")
        job = self.run_release(None, rollback=True, after=opts["after"])
        self.all_live("v1", "v1")
        self.assertEqual(self.outcomes(job)["web01"], (CHANGED, "v1 is live, before it was v2"))
        self.assertEqual(self.sshd.host[BUSYBOX].read(self.app + ".did"),
                         "before v1 after v1 v1 before v2 after v2 v2 after v1 v1 ")
        job = self.run_release(None, rollback=True, state=FAILURE)
        self.assertEqual(self.outcomes(job)["web01"],
                         (FAILED, "not touched, v1 is live; there is no release before v1"))
        self.run_release("v2", rollback=True)
        self.all_live("v2", "v2")

    def test_git_by_tag_branch_and_commit(self):
        repo = os.path.join(self.builds, self.app + ".git-work")
        os.makedirs(repo)
        git(repo, "init", "-q", "-b", "main")
        commits = []
        for text in ("one", "two", "three"):
            with open(os.path.join(repo, "what"), "w", encoding="utf-8") as f:
                f.write(text)
            git(repo, "add", "what")
            git(repo, "commit", "-q", "-m", text)
            commits.append(git(repo, "rev-parse", "HEAD"))
            if text == "one":
                git(repo, "tag", "-a", "-m", "first", "v1")
        opts = {"apptype": "git", "source": "file://" + repo}
        for revision, i in (("v1", 0), ("main", 2), (commits[1][:12], 1)):
            self.run_release(revision, **opts)
            self.all_live(commits[i], ("one", "two", "three")[i])
        job = self.run_release(commits[1], **opts)
        self.assertEqual(self.outcomes(job)["web01"], (OK, commits[1] + " is live already"))
        job = self.run_release("nosuch", state=FAILURE, **opts)
        self.all_live(commits[1], "two")
        for status, text in self.outcomes(job).values():
            self.assertEqual(status, SKIPPED)
            self.assertRegex(text, "^not touched, %s is live; web01: .*no branch, tag or commit nosuch" % commits[1])
        git(repo, "checkout", "-q", "-b", "feature/x", commits[0])
        self.run_release("feature/x", **opts)
        self.all_live(commits[0], "one")

    def test_directory_checksum_and_what_is_kept(self):
        for n in range(1, 5):
            self.archive("v%d" % n)
        tree = os.path.join(self.builds, self.app + "-{revision}")
        for n in range(1, 5):
            self.run_release("v%d" % n, targets="web01", apptype="directory", source=tree, keep=2)
        self.all_live("v4", "v4", names=["web01"])
        self.assertEqual(self.releases("web01"), ["v3", "v4"])
        self.run_release(None, targets="web01", rollback=True)
        self.run_release("v1", targets="web01", keep=1)
        self.assertEqual(self.releases("web01"), ["v1", "v3"], "the live one and the one before are kept")
        job = self.run_release("v2", targets="web01", checksum="0" * 64, state=FAILURE)
        self.assertIn("not " + "0" * 64, self.outcomes(job)["web01"][1])
        self.assertEqual(self.releases("web01"), ["v1", "v3"], "nothing half made is left")
        job = self.run_release("v1", targets="web01", checksum="0" * 64, state=FAILURE)
        self.assertIn("made of an archive with the checksum", self.outcomes(job)["web01"][1])

    def test_a_task_of_an_app(self):
        self.app = "shop"
        self.archive("v1")
        jid = self.exed.submit("/tasks", {"targets": FEW, "taskname": "release_shop", "taskopts": {"revision": "v1"}})
        job = self.exed.wait_job(jid, 120)
        self.assertEqual((job["state"], job["value"]["switched"]), (DONE, 2), self.outcomes(job))
        self.all_live("v1", "v1")
        answer = self.exed.post("/tasks", {"targets": FEW, "taskname": "release_shop"})
        self.assertEqual((answer.status, answer.body["message"]), (400, "'revision' is missing"))

    def test_nothing_is_linked_through_a_link_of_the_archive(self):
        path, away = os.path.join(self.builds, self.app + ".tar"), self.sshd.path("away", self.app)
        os.makedirs(away + "/log")
        link = tarfile.TarInfo("conf")
        link.type, link.linkname = tarfile.SYMTYPE, away
        with tarfile.open(path, "w") as tar:
            tar.addfile(link)
        for host in ("web01", BUSYBOX):
            job = self.run_release("v1", targets=host, source=path, strip=0, shared=["conf/log/"], state=FAILURE)
            self.assertIn("conf is a link in the release", self.outcomes(job)[host][1])
            self.assertEqual(self.releases(host), [])
        self.assertEqual(os.listdir(away), ["log"])

    def test_what_the_node_sends(self):
        path = self.archive("v1")
        self.archive("v2")
        tree = os.path.join(self.builds, self.app + "-{revision}")
        job = self.run_release("v1", source="node:" + path)
        self.all_live("v1", "v1")
        self.assertIn("send", [record["name"] for record in job["return_data"][BUSYBOX]])
        self.run_release("v2", apptype="directory", source="node:" + tree)
        self.all_live("v2", "v2")
        job = self.run_release("v2", apptype="directory", source="node:" + tree)
        self.assertEqual(self.outcomes(job)["web01"], (OK, "v2 is live already"))
        self.assertNotIn("send", [record["name"] for record in job["return_data"]["web01"]])
        self.assertEqual(sorted(os.listdir(self.path(BUSYBOX, ".release"))), ["before", "source"])
        job = self.run_release("v3", source="node:/etc/{revision}", state=FAILURE)
        self.assertIn("local_files", self.outcomes(job)["web01"][1])
        self.all_live("v2", "v2")

    def test_what_was_cut_off_in_the_middle_is_never_there(self):
        """tar hangs with a part of the files there, and is killed by the time limit."""
        home, path = self.sshd.host["web04"].dir, self.archive("v1")
        os.makedirs(home + "/bin")
        with open(home + "/bin/tar", "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\necho half >\"$3/what\"\nexec sleep 60\n")
        os.chmod(f.name, 0o755)
        job = self.run_release("v1", targets="web04", source=path, strip=0, timeout="1s", state=FAILURE)
        self.assertRegex(self.outcomes(job)["web04"][1], "^not touched, nothing is live; over its time limit")
        self.assertEqual(self.releases("web04"), [".new"])
        os.unlink(f.name)
        self.run_release("v1", targets="web04")
        self.all_live("v1", "v1", names=["web04"])
        self.assertEqual(self.releases("web04"), ["v1"])

    def test_archive_from_a_web_server(self):
        path = self.archive("v1")
        os.rename(path, os.path.join(self.builds, self.app + ".tgz"))
        handler = functools.partial(Quiet, directory=self.builds)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.addCleanup(server.server_close)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        where = "http://127.0.0.1:%d/" % server.server_port
        self.run_release("v1", source=where + self.app + ".tgz")
        self.all_live("v1", "v1")
        job = self.run_release("v2", source=where + "nosuch", state=FAILURE)
        for host in ("web01", BUSYBOX):
            self.assertIn("404", self.outcomes(job)[host][1])
        self.all_live("v1", "v1")

    def test_what_a_client_says_is_data(self):
        for revision in ("v1; rm -rf /", "../x", "-x", "$(id)", "a b", "v1\n", "a/../b", "a/b"):
            answer = self.release(revision)
            self.assertEqual(answer.status, 400, revision)
            self.assertIn("revision", answer.body["message"])
        odd = "v1+a_b-c.d"
        path = self.archive(odd)
        strange = os.path.join(self.builds, "it's;$(touch${IFS}x)&`id`.tar.gz")
        os.link(path, strange)
        job = self.run_release(odd, targets="web01", source=strange)
        self.assertEqual(self.outcomes(job)["web01"][1], odd + " is live, before it was nothing")
        answer = self.release("v9", targets="web01", source=path, dry_run=True)
        self.assertEqual((answer.status, list(answer.body)), (200, ["plan"]))
        self.assertEqual(self.releases("web01"), [odd])

    def bad_revision(self, stall=""):
        """v2 is ill on the hosts 07 to 10: with 4 at once and 2 that may fail, a part has it when it is enough."""
        answer = self.release("v2", targets="all", size=4, canary=0, max_failed=2, health_tries=1, after=stall or "true",
                              health='case $EXED_TEST_HOST-$RELEASE_NAME in web0[789]-v2 | web10-v2) exit 1 ;; esac')
        self.assertEqual(answer.status, 201, answer.body)
        return answer.body["jid"]

    def check_all_back(self, names, job):
        self.assertEqual((job["state"], job["error"]), (FAILURE, "3 of 20 hosts failed, more than max_failed, 2"))
        self.all_live("v1", "v1", names=names)
        outcomes = self.outcomes(job)
        self.assertEqual(set(outcomes), set(names))
        for name, (status, text) in outcomes.items():
            self.assertRegex(text, "^(gone back|not touched), v1 is live; ", name)
            self.assertEqual(status, SKIPPED if text.startswith("not") else FAILED, name)
        back = [name for name, (status, _) in outcomes.items() if status == FAILED]
        self.assertTrue(set(back) >= set(names[:9]), back)
        self.assertEqual(outcomes["web20"][0], SKIPPED)

    def test_a_bad_revision_goes_back_on_all_of_20_hosts_also_when_the_node_is_killed(self):
        names = [host.name for host in self.sshd.hosts]
        for revision in ("v1", "v2"):
            self.archive(revision)
        self.run_release("v1", targets="all", size=20, canary=0)
        self.check_all_back(names, self.exed.wait_job(self.bad_revision(), 120))
        jid = self.bad_revision("echo $RELEASE_LIVE >>$HOME/$RELEASE_APP.after; sleep 0.3")

        def switched(n):
            return sum(self.live(names)[name][0] == "v2" for name in names) >= n
        wait_until(lambda: switched(5), 30, "5 hosts have v2")
        self.exed.kill9()
        self.exed.start(limit=30)
        wait_until(lambda: any("v2\nv1\n" in host.read(self.app + ".after") for host in self.sshd.hosts)
                   or self.exed.job(jid, False)["state"] != RUNNING, 60, "hosts go back")
        self.exed.kill9()
        self.exed.start(limit=30)
        self.check_all_back(names, self.exed.wait_job(jid, 120))
        for host in self.sshd.hosts[:9]:
            self.assertEqual(host.read(self.app + ".after").split(), ["v2", "v1"], host.name)


if __name__ == "__main__":
    unittest.main()
