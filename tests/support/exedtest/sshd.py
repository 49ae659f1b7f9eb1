# SPDX-License-Identifier: MIT
"""A private OpenSSH sshd on addresses 127.0.1.x, with its own keys, and the files that a client needs."""

import getpass
import os
import shutil
import subprocess
import tempfile
import uuid

from .procs import ROOT, SLOW, Child, Fixture, children_of, end_pids, free_port, wait_until, with_marker

PASSPHRASE = "exed test"
_SOCKETS = 16  # ListenAddress lines that one sshd takes
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEY_TYPES = ("ed25519", "ecdsa", "rsa")


def _program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert path, "%s is not installed" % name
    return path


def make_key(path, kind, passphrase=""):
    """An OpenSSH key pair at path and path.pub."""
    bits = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *bits, "-a", "4", "-N", passphrase, "-C", "exedtest",
                    "-f", path], check=True, stdin=subprocess.DEVNULL)
    return path


def kept_key(path, kind, passphrase=""):
    """As make_key, but made once for all runs and then copied: RSA keys cost seconds. Keys of the tests
    only; they open nothing but a private sshd that lives as long as its test."""
    store = os.path.join(ROOT, "build", "support", "keys")
    os.makedirs(store, mode=0o700, exist_ok=True)
    kept = os.path.join(store, os.path.basename(path))
    if not os.path.exists(kept):
        with tempfile.TemporaryDirectory(dir=store) as new:
            made = make_key(os.path.join(new, "key"), kind, passphrase)
            os.rename(made + ".pub", kept + ".pub")
            os.rename(made, kept)  # last: a key that is there is whole
    shutil.copy(kept, path)
    shutil.copy(kept + ".pub", path + ".pub")
    os.chmod(path, 0o600)
    return path


def _read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def _account_is_locked():
    """Without PAM, sshd refuses an account whose password field begins with '!'; only root can look."""
    try:
        for line in _read("/etc/shadow").splitlines():
            if line.startswith(getpass.getuser() + ":"):
                return line.split(":")[1].startswith("!")
    except OSError:
        pass
    return False


class Host:
    """One host of the sshd: name, address, port, and the directory that stands for its disk."""

    def __init__(self, name, address, port, directory):
        self.name, self.address, self.port, self.dir = name, address, port, directory

    def read(self, name):
        """The text of a file that commands wrote into $EXED_TEST_DIR, "" when there is none."""
        try:
            return _read(os.path.join(self.dir, name))
        except FileNotFoundError:
            return ""


class Sshd(Fixture):
    """n hosts web01..webN at 127.0.1.1.., one free port, login as the current user by key.

    options: further sshd_config lines for all; they come first, and sshd takes the first value.
    host_options: {name: [lines]} for single hosts (those that sshd allows in a Match block).
    bare: names of hosts whose PATH is their bin/ alone.
    per_process=1 gives each host an sshd of its own, which stop_host and start_host need.

    A command that runs there has EXED_TEST_HOST (web01) and EXED_TEST_DIR (a directory of that host) in
    its environment; that directory is its HOME too, so nobody's own profile is read.
    Programs in its bin/ are found before the machine's own.

    Attributes: hosts (list of Host), host[name], port, user, inventory, known_hosts, key (ed25519), keys
    {"ed25519", "ecdsa", "rsa" and each with "_pass"}, passphrase, wrong_key (refused).
    """

    passphrase = PASSPHRASE

    def __init__(self, n=20, options=(), host_options=None, per_process=_SOCKETS, name="web",
                 first="127.0.1.1", bare=()):
        super().__init__()
        assert 1 <= n <= 250
        net, start = first.rsplit(".", 1)
        addresses = ["%s.%d" % (net, int(start) + i) for i in range(n)]
        self.n, self.options, self.host_options = n, list(options), host_options or {}
        self.bare = set(bare)
        self.per_process = min(per_process, _SOCKETS)
        self.port = free_port(addresses=addresses)
        self.user = getpass.getuser()
        self.marker = "exedtest-%s" % uuid.uuid4()
        width = max(2, len(str(n)))
        self.hosts = []
        for i, address in enumerate(addresses):
            host_name = "%s%0*d" % (name, width, i + 1)
            self.hosts.append(Host(host_name, address, self.port, self.path("hosts", host_name)))
            os.makedirs(self.hosts[-1].dir)
        self.host = {host.name: host for host in self.hosts}
        self.children = {}  # index of the group of hosts -> Child
        self._make_keys()
        self._write_files()

    def _make_keys(self):
        self.host_keys = [kept_key(self.path("host_" + kind), kind) for kind in _KEY_TYPES]
        self.keys = {}
        authorized = ""
        for kind in _KEY_TYPES:
            for suffix, passphrase in (("", ""), ("_pass", PASSPHRASE)):
                path = kept_key(self.path("id_" + kind + suffix), kind, passphrase)
                self.keys[kind + suffix] = path
                authorized += _read(path + ".pub")
        self.key = self.keys["ed25519"]
        self.wrong_key = kept_key(self.path("id_wrong"), "ed25519")
        self.write("authorized_keys", authorized, 0o600)

    def _write_files(self):
        names = ",".join("[%s]:%d" % (host.address, host.port) for host in self.hosts)
        lines = [names + " " + " ".join(_read(key + ".pub").split()[:2]) for key in self.host_keys]
        self.known_hosts = self.write("known_hosts", "\n".join(lines) + "\n")
        self.inventory = self.write("hosts.ini", self.inventory_text())

    def inventory_text(self, key=None):
        """The hosts as an Ansible INI inventory, in the group `web` (or whatever their name is)."""
        group = self.hosts[0].name.rstrip("0123456789")
        lines = ["%s ansible_host=%s ansible_port=%d ansible_user=%s ansible_ssh_private_key_file=%s" % (
            host.name, host.address, host.port, self.user, key or self.key) for host in self.hosts]
        return "[%s]\n%s\n" % (group, "\n".join(lines))

    def _groups(self):
        return [self.hosts[i:i + self.per_process] for i in range(0, self.n, self.per_process)]

    def _config(self, index, hosts):
        lines = ["ListenAddress %s:%d" % (host.address, host.port) for host in hosts]
        lines += ["HostKey " + key for key in self.host_keys]
        lines += self.options + [
            "AuthorizedKeysFile " + self.path("authorized_keys"),
            "PidFile " + self.path("sshd%d.pid" % index),
            "UsePAM %s" % ("yes" if os.geteuid() == 0 and _account_is_locked() else "no"),
            "StrictModes no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password", "PermitUserEnvironment no", "PermitTTY no",
            "MaxStartups 1000", "MaxSessions 10", "MaxAuthTries 6", "LoginGraceTime 30", "UseDNS no",
            "PrintMotd no", "PrintLastLog no", "X11Forwarding no", "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp"]
        for host in hosts:
            lines += ["Match LocalAddress " + host.address,
                      '\tSetEnv HOME=%s EXED_TEST_HOST=%s EXED_TEST_DIR=%s EXED_TEST_MARK=%s PATH=%s/bin%s'
                      % (host.dir, host.name, host.dir, self.marker, host.dir,
                         "" if host.name in self.bare else ":" + _PATH)]
            lines += ["\t" + line for line in self.host_options.get(host.name, ())]
        return self.write("sshd%d_config" % index, "\n".join(lines) + "\n")

    def _start_group(self, index):
        hosts = self._groups()[index]
        config, log = self._config(index, hosts), self.path("sshd%d.log" % index)
        if os.path.exists(log):
            os.unlink(log)  # of an earlier start: it would look as if this one listened already
        child = Child([_program("sshd"), "-D", "-e", "-f", config], log)
        self.children[index] = child

        def listening():
            child.check()
            return child.output(1 << 20).count("Server listening on") >= len(hosts)

        wait_until(listening, 10, "sshd listens at %s..%s" % (hosts[0].address, hosts[-1].address))

    def start(self):
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd insists on it as root
        for index in range(len(self._groups())):
            self._start_group(index)
        return self

    def _index(self, name):
        assert self.per_process == 1, "single hosts need Sshd(per_process=1)"
        return [host.name for host in self.hosts].index(name)

    def stop_host(self, name):
        """Ends one host's sshd, its sessions and what runs in them: connecting is refused from then on."""
        child = self.children.pop(self._index(name))
        sessions = children_of(child.pid)
        child.end()
        end_pids(sessions)

    def start_host(self, name):
        self._start_group(self._index(name))

    def log(self):
        return "".join(child.output(1 << 20) for child in self.children.values())

    def sessions(self):
        """pids of the sshd processes that serve connections, and of what runs below them."""
        return [pid for child in self.children.values() for pid in children_of(child.pid)]

    def running(self, text=None):
        """pids of what commands have left running on the hosts: whatever has the mark in its environment.

        A process that cleared its environment is not seen. With a text, those that have it in their
        command line or environment as well.
        """
        marked = with_marker("EXED_TEST_MARK=" + self.marker)
        return [pid for pid in marked if not text or pid in with_marker(text)]

    def stop(self):
        below = self.sessions()
        for child in self.children.values():
            child.end()
        self.children = {}
        end_pids(below, 5 * SLOW)
        end_pids(self.running(), 5 * SLOW)
        self.forget()
