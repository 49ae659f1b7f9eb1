#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the test suites and counts their cases.

usage: run.py [--build DIR] [--only NAME] [--sanitizer asan|tsan] SUITE...    (unit, lua, functional, bench)

A suite is a set of test files, and each file is a program that runs under a time limit in a process group
and a temporary directory of its own. A file fails when a case fails, when it ends badly, runs no case, passes
its limit, leaves a process running or when a sanitizer has something to report. The output of a file is
shown only when it fails. The last line is `N passed, N failed`, over all suites.
"""

import argparse
import concurrent.futures
import ctypes
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.join(ROOT, "tests", "support"))

import scratch  # noqa: E402

# Files at once: functional tests mostly wait. EXED_TEST_JOBS overrides.
JOBS = {"unit": 2, "lua": 2, "functional": 4, "bench": 1}
# What takes longest begins first, so that nothing long is left at the end.
LONG = ["chaos", "redis_faults", "left", "ansible", "restart", "kill", "nodes", "hostile_ssh", "exec",
        "inventory_ansible", "store_faults", "fence"]
LIMITS = {"unit": 150, "lua": 120, "functional": 300, "bench": 600}  # seconds for one file; EXED_TEST_LIMIT overrides
SLOWER = {None: 1, "asan": 3, "tsan": 5}  # how much longer a file may take under a sanitizer
GRACE = 3.0  # seconds that a child of a test has to disappear after the test has ended
SHOWN = 300  # lines of a failed file's output, from the end
# Tells of descriptors that a program under test has not closed; not for sanitizers, which want to come first.
LEFT = os.path.join(ROOT, "build", "support", "left.so")
LEFT_SUITES = ("unit", "lua", "functional")
PR_SET_CHILD_SUBREAPER = 36
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)


def find_files(suite, build):
    """The test files of a suite: those in LONG, then the others sorted by name."""
    if suite == "unit":
        # The sources say what there is: a program left over from a source that is gone is no test.
        stems = [os.path.basename(p)[:-2] for p in glob.glob("tests/unit/test_*.c")]
        found = [os.path.join(build, "unit", stem) for stem in stems]
    elif suite == "lua":
        found = [p for where in ("tests/lua", "executors", "tasks") for p in glob.glob(where + "/*_test.lua")]
    elif suite == "bench":
        found = ["tests/bench/bench.py"]
    else:
        found = glob.glob("tests/functional/test_*.py")
    first = {"test_%s.py" % name: at for at, name in enumerate(LONG)}
    return sorted(found, key=lambda path: (first.get(os.path.basename(path), len(LONG)), path))


def pick_files(files, name):
    """The file called NAME, or else all that have NAME in theirs."""
    def stem(path):
        return re.sub(r"^test_|_test$", "", os.path.splitext(os.path.basename(path))[0])

    name = re.sub(r"^test_|_test$", "", os.path.splitext(os.path.basename(name))[0])
    return [f for f in files if stem(f) == name] or [f for f in files if name in stem(f)]


def command_of(suite, path, build, exed_run):
    if suite == "unit":
        return [path]
    if suite == "lua":
        how = [] if path.startswith("tests/") else ["--test"]
        return [os.path.join(build, exed_run), *how, path]
    if suite == "bench":
        return [sys.executable, "-X", "faulthandler", path, "--short"]
    return [sys.executable, "-X", "faulthandler", os.path.abspath(__file__), "--unittest", path]


def count_tap(text):
    """(passed, failed, skipped, complaint) of the TAP that cmocka writes; each group has its own plan."""
    planned = sum(int(n) for n in re.findall(r"^1\.\.(\d+)", text, re.M))
    results = re.findall(r"^(ok|not ok)\b([^\n]*)", text, re.M)
    skipped = sum(1 for _, rest in results if re.search(r"# SKIP\b", rest))  # "not ok" in cmocka 1.1.5
    failed = sum(1 for word, rest in results if word == "not ok" and not re.search(r"# SKIP\b", rest))
    complaint = None
    if planned != len(results):
        complaint = "%d cases were planned and %d ended" % (planned, len(results))
    return len(results) - failed - skipped, failed, skipped, complaint


def count_line(text):
    """The same of a file that ends with a line `N passed, N failed`."""
    lines = COUNTS.findall(text)
    if not lines:
        return 0, 0, 0, "it printed no line 'N passed, N failed'"
    return tuple(int(n or 0) for n in lines[-1]) + (None,)


def parent_table():
    """pid -> (parent, state, command) of every process that can be seen."""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % entry, encoding="utf-8", errors="replace") as f:
                head, _, rest = f.read().rpartition(")")
            with open("/proc/%s/cmdline" % entry, "rb") as f:
                line = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # it ended while we looked
        state, parent = rest.split()[:2]
        table[int(entry)] = (int(parent), state, line or head.partition("(")[2])
    return table


def descendants():
    """[(pid, command)] of all that descends from this process. Orphans come to us: we are a subreaper."""
    table = parent_table()
    found, queue = [], [os.getpid()]
    while queue:
        parent = queue.pop()
        for pid, (above, state, line) in table.items():
            if above == parent:
                queue.append(pid)
                if state not in "ZX":
                    found.append((pid, line))
    return found


def reap():
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def end_leftovers(grace):
    """Waits for what a test left behind, ends what stays; returns what had to be ended."""
    until = time.monotonic() + grace
    while True:
        reap()
        left = descendants()
        if not left or time.monotonic() >= until:
            break
        time.sleep(0.02)
    ended = left
    while left:
        for pid, _ in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
        reap()
        left = descendants()
    return ended


def environment(suite, build, tmp, sanitizer):
    env = dict(os.environ, EXED_BUILD=os.path.abspath(build), TMPDIR=tmp, CMOCKA_MESSAGE_OUTPUT="TAP",
               PYTHONPATH=os.path.join(ROOT, "tests", "support"), PYTHONDONTWRITEBYTECODE="1",
               PYTHONUNBUFFERED="1")
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    report = "log_path=%s/sanitizer" % tmp
    if sanitizer == "asan":
        env["ASAN_OPTIONS"] = report + ":detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
        env["UBSAN_OPTIONS"] = report + ":print_stacktrace=1:halt_on_error=1"
        env["LSAN_OPTIONS"] = suppressions("lsan")
    elif sanitizer == "tsan":
        env["TSAN_OPTIONS"] = report + ":second_deadlock_stack=1:" + suppressions("tsan")
    if sanitizer:
        env["EXED_SANITIZER"] = sanitizer
    elif suite in LEFT_SUITES and os.path.exists(LEFT):
        env["LD_PRELOAD"] = LEFT
    return env


def suppressions(which):
    path = os.path.join(ROOT, "tests", "support", which + ".supp")
    return "suppressions=%s:print_suppressions=0" % path if os.path.exists(path) else "print_suppressions=0"


def run_program(command, env, limit, out):
    """Runs it to its end or to the limit. Returns (exit code, seconds, whether the limit was passed)."""
    start = time.monotonic()
    child = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                             stderr=subprocess.STDOUT, start_new_session=True)
    late = False
    try:
        child.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
        child.send_signal(signal.SIGABRT)  # Python prints where it stands
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    except KeyboardInterrupt:
        child.terminate()
        end_leftovers(GRACE)
        raise
    return child.returncode, time.monotonic() - start, late


def sanitizer_reports(tmp):
    text = []
    for path in sorted(glob.glob(tmp + "/sanitizer.*")):
        with open(path, encoding="utf-8", errors="replace") as f:
            text.append(f.read())
    return [t for t in text if t.strip()]


def run_file(suite, path, args):
    """Runs one test file and prints its line. Returns (passed, failed)."""
    limit = float(os.environ.get("EXED_TEST_LIMIT", LIMITS[suite])) * SLOWER[args.sanitizer]
    tmp, lock = scratch.make()
    os.chmod(tmp, 0o755)
    complaints = []
    try:
        with tempfile.TemporaryFile() as out:
            try:
                code, seconds, late = run_program(command_of(suite, path, args.build, args.exed_run),
                                                  environment(suite, args.build, tmp, args.sanitizer), limit, out)
            except OSError as e:
                code, seconds, late = -1, 0.0, False
                complaints.append("it did not start: %s" % e)
            left = end_leftovers(0 if late else GRACE)
            out.seek(0)
            text = out.read().decode("utf-8", "replace")
        reports = sanitizer_reports(tmp)
    finally:
        scratch.remove(tmp, lock)

    passed, failed, skipped, complaint = count_tap(text) if suite == "unit" else count_line(text)
    if late:
        complaints.append("it passed its limit of %g s" % limit)
    elif complaints:
        pass
    elif code < 0:
        complaints.append("it was ended by signal %d" % -code)
    elif complaint:
        complaints.append(complaint)
    elif code != 0 and failed == 0:
        complaints.append("it ended with exit code %d" % code)
    elif passed + failed + skipped == 0:
        complaints.append("it ran no case")
    if failed and code == 0:
        complaints.append("it has failed cases and exit code 0")
    if left and not late:
        complaints.append("it left running: " + "; ".join("%d %s" % p for p in left))
    complaints += ["reported at a program's end:\n" + r for r in reports]
    failed += bool(complaints)

    word = "FAIL" if failed else "ok"
    print("%-4s %-10s %-32s %4d passed%s%s  %6.1f s" % (
        word, suite, os.path.basename(path), passed, ", %d failed" % failed if failed else "",
        ", %d skipped" % skipped if skipped else "", seconds), flush=True)
    if failed:
        lines = text.splitlines()
        if len(lines) > SHOWN:
            print("     | (%d lines before these)" % (len(lines) - SHOWN))
        for line in lines[-SHOWN:]:
            print("     | " + line)
        for c in complaints:
            print("     " + c.replace("\n", "\n     "))
        sys.stdout.flush()
    return passed, failed


def run_unittest(path):
    """Runs one file of unittest cases in this process and prints the line that count_line reads."""
    where, name = os.path.split(os.path.abspath(path))
    sys.path.insert(0, where)
    suite = unittest.defaultTestLoader.loadTestsFromName(os.path.splitext(name)[0])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    bad = set()
    for case, _ in result.failures + result.errors:
        bad.add(getattr(case, "test_case", case).id())
    bad.update(case.id() for case in result.unexpectedSuccesses)
    # What befell a class or module as a whole (setUpClass and the like) was not counted as a case that ran.
    noted = list(bad) + [case.id() for case, _ in result.skipped]
    passed = result.testsRun - sum(1 for case in noted if not case.startswith(("setUp", "tearDown")))
    print("%d passed, %d failed, %d skipped" % (passed, len(bad), len(result.skipped)), flush=True)
    return 1 if bad else 0


def run_apart(suite, path, args):
    """run_file in a process of its own, which sees only its own leftovers. Returns (passed, failed)."""
    command = [sys.executable, os.path.abspath(__file__), "--build", args.build, "--file", path, suite,
               "--exed-run", args.exed_run]
    if args.sanitizer:
        command += ["--sanitizer", args.sanitizer]
    text = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False).stdout.decode("utf-8", "replace")
    shown, _, counts = text.rstrip("\n").rpartition("\n")
    match = re.fullmatch(r"counts (\d+) (\d+)", counts)
    if not match:
        print(text + "FAIL %-10s %s: its runner ended early" % (suite, path), flush=True)
        return 0, 1
    print(shown, flush=True)
    return int(match.group(1)), int(match.group(2))


def run_suite(suite, args):
    files = find_files(suite, args.build)
    if args.only:
        files = pick_files(files, args.only)
    jobs = int(os.environ.get("EXED_TEST_JOBS", JOBS[suite]))
    total_passed = total_failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for passed, failed in pool.map(lambda path: run_apart(suite, path, args), files):
            total_passed += passed
            total_failed += failed
    if total_passed + total_failed == 0 and not args.only:
        print("FAIL %-10s this suite ran no test" % suite)
        total_failed = 1
    return total_passed, total_failed


def main():
    parser = argparse.ArgumentParser(description="run the test suites")
    parser.add_argument("--build", default="build", help="where the programs are")
    parser.add_argument("--exed-run", default="exed-run", help="the program in it that runs Lua tests")
    parser.add_argument("--only", help="one test file")
    parser.add_argument("--sanitizer", choices=["asan", "tsan"], help="what the programs were built with")
    parser.add_argument("--unittest", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    args = parser.parse_args()
    if args.unittest:
        return run_unittest(args.unittest)
    unknown = [s for s in args.suites if s not in LIMITS]
    if unknown or not args.suites:
        parser.error("the suites are " + ", ".join(LIMITS))

    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGHUP):  # ignored in the background, and tests send them
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if args.file:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        print("counts %d %d" % run_file(args.suites[0], args.file, args), flush=True)
        return 0
    scratch.remove_stale()
    passed = failed = 0
    for suite in args.suites:
        more = run_suite(suite, args)
        passed += more[0]
        failed += more[1]
    if passed + failed == 0:
        print("no test is called %s" % args.only)
        failed = 1
    print("\n%d passed, %d failed" % (passed, failed), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
