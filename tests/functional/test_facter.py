# SPDX-License-Identifier: MIT
"""Facts of hosts: the script under dash, bash and a busybox that has nothing beside it, on this machine and on
copies of other machines' /proc and /sys; and through the API, from hosts that answer well and hosts that do not."""

import fcntl
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd  # noqa: E402

OK, FAILED, UNREACHABLE = 1, 3, 4
SCRIPT = os.path.join(ROOT, "lua", "exed", "ops", "facts.sh")
SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
BUSYBOX = shutil.which("busybox")


def program(directory, name, text):
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)


def busybox_only(directory):
    """A directory of busybox's applets, in which sh finds nothing else."""
    os.makedirs(directory)
    for applet in subprocess.check_output([BUSYBOX, "--list"], text=True).split():
        if applet != "sh":
            os.symlink(BUSYBOX, os.path.join(directory, applet))
    program(directory, "sh", "#!%s sh\nPATH=%s exec %s sh \"$@\"\n" % (BUSYBOX, directory, BUSYBOX))


def first_line(path):
    with open(path, encoding="utf-8") as f:
        return f.readline().strip()


def meminfo(name):
    with open("/proc/meminfo", encoding="utf-8") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(name + ":"))


def ipv4_of(name):
    """The first address of an interface, by ioctl, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            answer = fcntl.ioctl(s, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def ipv6_of(name):
    """(address, prefix) of an interface, by /proc."""
    try:
        with open("/proc/net/if_inet6", encoding="utf-8") as f:
            rows = [line.split() for line in f]
    except FileNotFoundError:
        return []
    return sorted((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0])), int(row[2], 16))
                  for row in rows if row[5] == name)


def default_route():
    """(interface, gateway) of IPv4's, or None."""
    with open("/proc/net/route", encoding="utf-8") as f:
        rows = [line.split() for line in f][1:]
    for row in rows:
        if row[1] == row[7] == "00000000":
            return row[0], socket.inet_ntoa(struct.pack("=I", int(row[2], 16)))
    return None


class ThisMachine(unittest.TestCase):
    """What checks facts against what Python says."""

    def check(self, facts, full=True):
        uname = os.uname()
        self.assertEqual(facts["hostname"], uname.nodename.split(".")[0])
        self.assertTrue(facts["fqdn"].startswith(facts["hostname"]), facts["fqdn"])
        self.assertEqual((facts["kernel"], facts["kernel_release"], facts["kernel_version"]),
                         (uname.sysname, uname.release, uname.version))
        self.assertEqual((facts["architecture"], facts["machine"]), (uname.machine, uname.machine))
        release = platform.freedesktop_os_release()
        self.assertEqual(facts["os"]["id"], release["ID"])
        self.assertEqual(facts["os"]["description"], release["PRETTY_NAME"])
        self.assertEqual(facts["os"]["version"].split(".")[0], release["VERSION_ID"].split(".")[0])
        if release["ID"] == "debian":
            self.assertEqual((facts["os"]["name"], facts["os"]["family"]), ("Debian", "Debian"))
        self.assertEqual(facts["processors"]["count"], os.sysconf("SC_NPROCESSORS_ONLN"))
        self.assertEqual(facts["memory"], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        self.assertEqual(facts["swap"], meminfo("SwapTotal"))
        self.assertTrue(0 < facts["memory_available"] <= facts["memory"])
        uptime = float(first_line("/proc/uptime").split()[0])
        self.assertTrue(uptime - 300 < facts["uptime"] <= uptime, facts["uptime"])
        self.assertEqual(facts["boot_id"], first_line("/proc/sys/kernel/random/boot_id"))
        self.assertEqual(facts["is_virtual"], facts["virtual"] != "physical")
        for name in ("memory", "swap", "uptime", "boot_time"):
            self.assertIs(type(facts[name]), int, name)
        self.check_mounts(facts["mounts"])
        self.check_interfaces(facts, full)
        self.assertNotIn("truncated", facts)

    def check_mounts(self, mounts):
        # In a chroot the root is no mount.
        with open("/proc/mounts", encoding="utf-8") as f:
            has_root = any(line.split()[1] == "/" for line in f)
        self.assertEqual("/" in [mount["mount"] for mount in mounts], has_root)
        for mount in mounts:
            if "size" not in mount:
                continue
            found = os.statvfs(mount["mount"])
            size = found.f_blocks * found.f_frsize
            self.assertLess(abs(mount["size"] - size), 4096, mount)
            self.assertTrue(0 <= mount["available"] <= mount["size"], mount)

    def check_interfaces(self, facts, full):
        found = {one["name"]: one for one in facts["interfaces"]}
        self.assertEqual(sorted(found), sorted(os.listdir("/sys/class/net")))
        for name, one in found.items():
            where = "/sys/class/net/%s/" % name
            self.assertEqual((one["mac"], one["mtu"], one["state"]), (
                first_line(where + "address"), int(first_line(where + "mtu")), first_line(where + "operstate")))
            if full or ipv4_of(name) is None:
                self.assertEqual(one["ipv4"][0]["address"] if one["ipv4"] else None, ipv4_of(name), name)
            self.assertEqual(sorted((a["address"], a["prefix"]) for a in one["ipv6"]), ipv6_of(name))
        self.assertEqual(found["lo"]["ipv4"], [{"address": "127.0.0.1", "prefix": 8, "scope": "host"}])
        route = default_route()
        if route:
            self.assertEqual((facts["default_ipv4"]["interface"], facts["default_ipv4"]["gateway"]), route)
            self.assertEqual(facts["default_ipv4"]["address"], ipv4_of(route[0]))
        else:
            self.assertNotIn("default_ipv4", facts)


class Hosts(ThisMachine):
    """Through the API."""

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(10)
        cls.addClassCleanup(cls.sshd.stop)
        bins = {host.name: os.path.join(host.dir, "bin") for host in cls.sshd.hosts}
        os.makedirs(bins["web02"])
        os.symlink(shutil.which("bash"), os.path.join(bins["web02"], "sh"))
        busybox_only(bins["web03"])
        busybox_only(bins["web04"])
        os.unlink(os.path.join(bins["web04"], "ip"))
        program(bins["web04"], "ip", "#!/bin/sh\nexit 1\n")
        said = {
            "web05": r"cat >/dev/null; head -c 10000000 /dev/urandom",
            "web06": r"cat >/dev/null; printf 'exed-facts 1\nhostname=a\nadmin=true\nend\n'",
            "web07": r"cat >/dev/null; printf 'exed-facts 1\nhostname=\001\033[2J\377\042}{\\\n' ; echo end",
            "web08": r"cat >/dev/null; printf 'exed-facts 1\nhostname=a\n'; echo broken >&2; exit 3",
            "web10": r"echo 'Welcome!'; exec /bin/sh " + '"$@"',
        }
        program(bins["web09"], "sort", "#!/bin/sh\nexec sleep 600\n")
        for name, text in said.items():
            program(bins[name], "sh", "#!/bin/sh\n%s\n" % text)
        cls.sshd.start()
        cls.exed = Exed(cls.sshd)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def ask(self, target, query=""):
        answer = self.exed.get("/facter?target=%s%s" % (target, query))
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(list(answer.body), [target])
        return answer.body[target]

    def test_facts_under_each_shell(self):
        for host in ("web01", "web02", "web03", "web10"):
            with self.subTest(host):
                record = self.ask(host)
                self.assertEqual(record["status"], OK, record)
                self.assertEqual(set(record), {"status", "started", "seconds", "facts"})
                self.check(record["facts"])

    def test_addresses_without_ip(self):
        record = self.ask("web04")
        self.assertEqual(record["status"], OK, record)
        self.check(record["facts"], full=False)

    def test_the_local_executor(self):
        record = self.ask("web01", "&executor=local")
        self.assertEqual(record["status"], OK, record)
        self.check(record["facts"])

    def test_a_job_of_several_hosts(self):
        jid = self.exed.submit("/facter", {"targets": ["web01", "web02", "web06"], "lines": True})
        records = self.exed.records(jid)
        self.assertEqual({host: [one["status"] for one in found] for host, found in records.items()},
                         {"web01": [OK], "web02": [OK], "web06": [FAILED]})
        job = self.exed.job(jid)
        self.assertEqual((job["operate"], job["operate_args"], job["state"]), ("facter", {}, 2))
        self.assertEqual(job["return_data"]["web01"][0]["facts"]["kernel"], "Linux")

    def test_facts_take_no_lease(self):
        jid = self.exed.execute(["web01"], "while [ ! -e \"$EXED_TEST_DIR/go\" ]; do sleep .05; done", lock="exclusive")
        self.assertEqual(self.ask("web01")["status"], OK)
        with open(os.path.join(self.sshd.host["web01"].dir, "go"), "w", encoding="utf-8"):
            pass
        self.assertEqual(self.exed.wait_job(jid)["state"], 0)

    def test_noise_fails_that_host_only(self):
        record = self.ask("web05")
        self.assertEqual((record["status"], record["error"]), (FAILED, "its facts are longer than 131072 bytes"))
        self.assertEqual(record["stdout_bytes"], 10000000)
        self.assertLess(len(record["stdout"]), 8192)

    def test_a_name_that_is_none_of_ours_is_refused(self):
        record = self.ask("web06")
        self.assertEqual(record["status"], FAILED)
        self.assertEqual(record["error"], "line 2 of its facts is not one that is known: admin=true")

    def test_odd_bytes_stay_text(self):
        record = self.ask("web07")
        self.assertEqual(record["status"], OK, record)
        self.assertEqual(record["facts"]["hostname"], "\x01\x1b[2J\ufffd\"}{\\")

    def test_a_script_that_fails_says_so(self):
        record = self.ask("web08")
        self.assertEqual((record["status"], record["rtc"], record["error"]), (FAILED, 3, "broken"))

    def test_a_host_that_hangs_has_a_limit(self):
        record = self.ask("web09", "&timeout=1")
        self.assertEqual((record["status"], record["rtc"], record["timed_out"]), (FAILED, 124, True))

    def test_bad_requests(self):
        self.assertEqual(self.exed.get("/facter").body, {"message": "no target(s) given"})
        self.assertEqual(self.exed.get("/facter?target=nobody").status, 404)
        self.assertEqual(self.exed.post("/facter", {"targets": "web01", "cmd": "x"}).status, 400)
        self.assertEqual(self.exed.delete("/facter").status, 405)


MEMINFO = "MemTotal: 1000 kB\nMemFree: 10 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"


class Elsewhere(unittest.TestCase):
    """The script on what stands for other machines' files: every /proc, /sys, /etc and /run in it is one of
    a directory."""

    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.bin = os.path.join(self.dir, "bin")
        os.makedirs(self.bin)
        self.put("proc/meminfo", MEMINFO)
        self.put("proc/mounts", "overlay / overlay rw 0 0\n")
        self.put("proc/sys/kernel/hostname", "box\n")
        self.put("etc/hosts", "127.0.0.1 localhost\n")

    def put(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def run_script(self, shell):
        with open(SCRIPT, encoding="utf-8") as f:
            text = f.read()
        text = re.sub(r"(?<![\w/])/(?=(proc|sys|etc|run|usr/lib)/|\.dockerenv)", self.dir + "/", text)
        text = text.replace(":/usr/sbin:/sbin", "")
        found = subprocess.run([*shell, "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=60, env={"PATH": self.bin + ":/usr/bin:/bin"}, check=True)
        lines = found.stdout.splitlines()
        self.assertEqual((lines[0], lines[-1]), ("exed-facts 1", "end"), found)
        return lines[1:-1]

    def each_shell(self, check):
        for shell in SHELLS:
            with self.subTest(shell[0]):
                check(self.run_script(shell))

    def test_almost_nothing_there(self):
        os.unlink(os.path.join(self.dir, "etc/hosts"))
        os.unlink(os.path.join(self.dir, "proc/meminfo"))
        os.unlink(os.path.join(self.dir, "proc/mounts"))

        def check(lines):
            self.assertIn("hostname=box", lines)
            self.assertIn("kernel=Linux", lines)
            self.assertFalse([line for line in lines if line.startswith(("mounts", "interfaces", "memory", "os."))])
        self.each_shell(check)

    def test_the_full_name_is_that_of_etc_hosts(self):
        self.put("etc/hosts", "# a comment\n\n127.0.0.1 localhost box\n10.0.0.1 other.example.net other\n"
                              "10.0.0.2 box.example.net  box # box.wrong.net\n10.0.0.3 box.later.net box\n")

        def check(lines):
            self.assertIn("fqdn=box.example.net", lines)
            self.assertIn("domain=example.net", lines)
        self.each_shell(check)

    def test_systems_have_their_names(self):
        cases = (
            ('ID=alpine\nNAME="Alpine Linux"\nVERSION_ID=3.20.0\n', ["os.name=Alpine", "os.family=Alpine",
                                                                    "os.version=3.20.0", "os.major=3"]),
            ("ID='rocky'\nID_LIKE=\"rhel centos fedora\"\nNAME='Rocky Linux'\nVERSION_ID=\"9.4\"\n",
             ["os.name=Rocky", "os.family=RedHat", "os.version=9.4", "os.major=9"]),
            ('ID=linuxmint\nID_LIKE="ubuntu debian"\nNAME="Linux Mint"\nVERSION_ID=21\nVERSION_CODENAME=vera',
             ["os.name=Linux Mint", "os.family=Debian", "os.codename=vera"]),
            ('NAME="$(touch \'hacked\')"\nID=odd', ["os.name=$(touch 'hacked')", "os.id=odd"]),
        )
        for text, wanted in cases:
            self.put("etc/os-release", text)
            self.each_shell(lambda lines, wanted=wanted: self.assertEqual(
                [line for line in wanted if line not in lines], []))
        os.unlink(os.path.join(self.dir, "etc/os-release"))
        self.put("etc/redhat-release", "CentOS release 6.10 (Final)\n")
        self.each_shell(lambda lines: self.assertEqual(
            [line for line in lines if line.startswith("os.")],
            ["os.id=rhel", "os.name=CentOS", "os.family=RedHat", "os.version=6.10", "os.major=6",
             "os.description=CentOS release 6.10 (Final)"]))

    def test_processors_are_counted(self):
        self.put("sys/devices/system/cpu/online", "0-3,6,8-9\n")
        cpu = "processor\t: %d\nmodel name\t: Some CPU: 2.0\nphysical id\t: %d\ncpu cores\t: 2\n\n"
        self.put("proc/cpuinfo", "".join(cpu % (i, i // 4) for i in range(7)))
        self.each_shell(lambda lines: self.assertEqual(
            [line for line in lines if line.startswith("processors")],
            ["processors.count=7", "processors.physicalcount=2", "processors.cores=2",
             "processors.model=Some CPU: 2.0"]))

    def test_no_server_is_asked_for_a_size(self):
        """df would wait for ever for a server that has gone."""
        self.put("proc/mounts", "proc /proc proc rw 0 0\n/dev/sda1 / ext4 rw 0 0\nnas:/srv /mnt/nas nfs4 rw 0 0\n"
                                "//win/share /mnt/a\\040b cifs rw 0 0\nsshfs#a: /mnt/s fuse.sshfs rw 0 0\n"
                                "/dev/sdb1 /mnt/c\\040d\\134\\011e xfs ro,noexec 0 0\ntmpfs /run tmpfs rw 0 0\n"
                                "auto /net autofs rw 0 0\npool/x /pool zfs rw 0 0\n")
        program(self.bin, "df", '#!/bin/sh\nprintf "%%s\\n" "$3" >>%s/asked\n' % self.dir +
                'printf "Filesystem 1024-blocks\\n/dev/x 100 60 -5 60%% /x\\n"\n')

        def check(lines):
            with open(os.path.join(self.dir, "asked"), encoding="utf-8") as f:
                self.assertEqual(f.read(), "/\n/mnt/c d\\\te\n/pool\n")
            os.unlink(os.path.join(self.dir, "asked"))
            self.assertEqual([line for line in lines if line.startswith("mounts.mount")], [
                "mounts.mount=" + path for path in ("/", "/mnt/nas", "/mnt/a\\040b", "/mnt/s",
                                                    "/mnt/c\\040d\\134\\011e", "/pool")])
            self.assertEqual([line for line in lines if line.startswith("mounts.size")], ["mounts.size=100"] * 3)
            self.assertFalse([line for line in lines if line.startswith("mounts.available")])  # it was negative
        self.each_shell(check)

    def test_a_disk_that_does_not_answer_has_no_size(self):
        program(self.bin, "df", "#!/bin/sh\nexec sleep 600\n")
        program(self.bin, "timeout", '#!/bin/sh\nshift\n[ "$1" != df ] || exit 124\nexec "$@"\n')
        self.each_shell(lambda lines: self.assertEqual(
            [line for line in lines if line.startswith("mounts")],
            ["mounts[]", "mounts.device=overlay", "mounts.mount=/", "mounts.fstype=overlay", "mounts.options=rw"]))

    def test_long_lists_are_cut_and_say_so(self):
        self.put("proc/mounts", "".join("nas:/%d /mnt/%d nfs rw 0 0\n" % (i, i) for i in range(300)))
        for i in range(300):
            self.put("sys/class/net/veth%d/mtu" % i, "1500\n")
            self.put("sys/class/net/veth%d/address" % i, "02:00:00:00:00:00\n")
        program(self.bin, "ip", "#!/bin/sh\ni=0\nwhile [ $i -lt 700 ]; do i=$((i + 1))\n"
                                "echo \"$i: veth$i    inet 10.0.0.1/24 scope global veth$i\"; done\n")

        def check(lines):
            self.assertEqual([line for line in lines if line.startswith("truncated")],
                             ["truncated=interfaces", "truncated=addresses", "truncated=mounts"])
            self.assertEqual([lines.count(name) for name in ("mounts[]", "interfaces[]")], [200, 200])
            self.assertEqual(len([line for line in lines if line.startswith("address=")]), 600)
            self.assertLess(len("\n".join(lines)), 128 * 1024)
        self.each_shell(check)

    def test_addresses_and_routes_by_proc(self):
        program(self.bin, "ip", "#!/bin/sh\nexit 127\n")
        head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        row = "%s\t%s\t%s\t%s\t0\t0\t%d\t%s\t0\t0\t0\n"

        def number(address):
            return "%08X" % struct.unpack("=I", socket.inet_aton(address))[0]
        routes = (("eth1", "0.0.0.0", "10.9.0.1", "0003", 200, "0.0.0.0"),
                  ("eth0", "0.0.0.0", "192.168.200.254", "0003", 100, "0.0.0.0"),
                  ("dead", "0.0.0.0", "10.1.1.1", "0002", 0, "0.0.0.0"),
                  ("eth0", "192.168.200.0", "0.0.0.0", "0001", 0, "255.255.255.128"),
                  ("eth1", "10.8.0.0", "0.0.0.0", "0001", 0, "255.254.0.0"))
        self.put("proc/net/route", head + "".join(row % (
            name, number(to), number(gateway), flags, metric, number(mask))
            for name, to, gateway, flags, metric, mask in routes))
        self.put("proc/net/fib_trie", "".join("           |-- %s\n              /32 host LOCAL\n" % address for address in (
            "127.0.0.1", "192.168.200.5", "10.9.255.1", "172.16.0.1", "10.9.255.1")))
        self.put("proc/net/if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"
                                      "20010db8000000000000000000000005 02 40 00 80     eth0\n")
        zero = "0" * 32
        self.put("proc/net/ipv6_route", "".join("%s 00 %s 00 %s %s 00000001 00000000 %s %s\n" % (
            zero, zero, gateway, metric, flags, name) for gateway, metric, flags, name in (
                (zero, "ffffffff", "00200200", "lo"),
                ("fe800000000000000000000000000009", "00000400", "00000003", "eth1"),
                ("fe800000000000000000000000000001", "00000064", "00000003", "eth0"))))

        def check(lines):
            self.assertEqual(sorted(line for line in lines if line.startswith("address=")), [
                "address=eth0 inet 192.168.200.5/25 global",
                "address=eth0 inet6 2001:0db8:0000:0000:0000:0000:0000:0005/64 global",
                "address=eth1 inet 10.9.255.1/15 global", "address=lo inet 127.0.0.1/8 host",
                "address=lo inet6 0000:0000:0000:0000:0000:0000:0000:0001/128 host"])
            self.assertEqual([line for line in lines if line.startswith("default")], [
                "default_ipv4.interface=eth0", "default_ipv4.gateway=192.168.200.254",
                "default_ipv6.interface=eth0", "default_ipv6.gateway=fe80:0000:0000:0000:0000:0000:0000:0001"])
        self.each_shell(check)

    def test_machines_are_told_apart(self):
        program(self.bin, "systemd-detect-virt", "#!/bin/sh\nexit 1\n")
        cases = (("QEMU", "Standard PC", "kvm"), ("VMware, Inc.", "VMware7,1", "vmware"),
                 ("innotek GmbH", "VirtualBox", "virtualbox"), ("Microsoft Corporation", "Virtual Machine", "hyperv"),
                 ("Microsoft Corporation", "Surface", "physical"), ("Amazon EC2", "m5.large", "kvm"),
                 ("Amazon EC2", "i3.metal", "physical"), ("Dell Inc.", "PowerEdge R640", "physical"))
        for vendor, product, virtual in cases:
            self.put("sys/class/dmi/id/sys_vendor", vendor + "\n")
            self.put("sys/class/dmi/id/product_name", product + "\n")
            self.each_shell(lambda lines, args=(vendor, product, virtual): self.assertEqual(
                [line for line in lines if line.startswith(("system_", "product_", "virtual", "is_"))],
                ["system_vendor=" + args[0], "product_name=" + args[1], "virtual=" + args[2],
                 "is_virtual=" + ("false" if args[2] == "physical" else "true")]))


del ThisMachine

if __name__ == "__main__":
    unittest.main()
