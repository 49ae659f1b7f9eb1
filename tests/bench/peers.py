# SPDX-License-Identifier: MIT
"""Other tools that run a command on many hosts, as Debian has them. Each runs `true` on the addresses and
says what its whole process tree cost; the simulator's counters say whether it did so on all of them."""

import os
import shutil
import subprocess

from meter import Cpu, Ran
from exedtest.procs import children_of, command_line

HERE = os.path.dirname(os.path.abspath(__file__))
AT_ONCE = 32
PYTHON = "/usr/bin/python3"  # the one that Debian's packages are for


class Peer:
    """needs: a program. hosts: on how many it is measured: what costs much gets few."""

    def __init__(self, name, needs, hosts, command, module=None):
        self.name, self.needs, self.hosts, self.command, self.module = name, needs, hosts, command, module

    def missing(self):
        """Why it cannot be measured, or None."""
        if self.needs and not shutil.which(self.needs):
            return "%s is not installed" % self.needs
        if self.module and subprocess.run([PYTHON, "-W", "ignore", "-c", "import " + self.module],
                                          capture_output=True, check=False).returncode:
            return "python3-%s is not installed" % self.module
        return None

    def run(self, fleet, where):
        """Runs it and returns CPU ms per host. where: a directory for its files."""
        files = write_files(fleet, where, self.hosts)
        fleet.reset()
        ran = Ran(self.command(files, self.hosts), env=files["env"], cwd=where).check()
        execs = fleet.stats(True)["execs"]
        assert execs == self.hosts, "%s ran on %d of %d hosts" % (self.name, execs, self.hosts)
        return ran.cpu_s * 1000 / self.hosts


def write_files(fleet, where, n):
    """Names of hosts, ssh's and ansible's configuration, for the first n hosts."""
    addresses = [fleet.address[name] for name in fleet.names[:n]]
    paths = {name: os.path.join(where, name) for name in ("hosts", "ssh_config", "inventory", "ansible.cfg")}
    texts = {
        "hosts": "\n".join(addresses) + "\n",
        "ssh_config": "Host *\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n"
                      "  UserKnownHostsFile %s\n  GlobalKnownHostsFile /dev/null\n"
                      "  StrictHostKeyChecking yes\n  BatchMode yes\n" % (
                          fleet.port, fleet.user, fleet.key, fleet.known_hosts),
        "inventory": "\n".join(addresses) + "\n",
        "ansible.cfg": "[defaults]\nforks = %d\nhost_key_checking = true\n[ssh_connection]\n"
                       "ssh_args = -F %s -o ControlMaster=no\nusetty = false\n" % (AT_ONCE, paths["ssh_config"]),
    }
    for name, text in texts.items():
        with open(paths[name], "w", encoding="utf-8") as f:
            f.write(text)
    env = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    env.update({"PDSH_SSH_ARGS_APPEND": "-F " + paths["ssh_config"], "ANSIBLE_CONFIG": paths["ansible.cfg"],
                "ANSIBLE_LOCAL_TEMP": where, "HOME": where, "EXED_BENCH_KEY": fleet.key,
                "EXED_BENCH_PORT": str(fleet.port), "EXED_BENCH_USER": fleet.user,
                "EXED_BENCH_KNOWN": fleet.known_hosts})
    return dict(paths, env=env, addresses=",".join(addresses))


PEERS = [
    Peer("pdsh", "pdsh", 200, lambda f, n: [
        "pdsh", "-R", "ssh", "-f", str(AT_ONCE), "-w", f["addresses"], "true"]),
    Peer("clush", "clush", 200, lambda f, n: [
        "clush", "-f", str(AT_ONCE), "-o", "-F " + f["ssh_config"], "-w", f["addresses"], "true"]),
    Peer("parallel-ssh", "parallel-ssh", 200, lambda f, n: [
        "parallel-ssh", "-h", f["hosts"], "-p", str(AT_ONCE), "-x", "-F " + f["ssh_config"], "true"]),
    Peer("asyncssh", PYTHON, 500, lambda f, n: [
        PYTHON, "-W", "ignore", os.path.join(HERE, "asyncssh_hosts.py"), f["hosts"]], module="asyncssh"),
    Peer("ansible", "ansible", 40, lambda f, n: [
        "ansible", "all", "-i", f["inventory"], "-m", "raw", "-a", "true"]),
]


class ControlMaster:
    """OpenSSH over connections that it already has: a master for each host, then `ssh host true`."""

    name, needs, hosts = "ControlMaster", "ssh", 60

    missing = Peer.missing
    module = None

    def run(self, fleet, where):
        files = write_files(fleet, where, self.hosts)
        options = ["-F", files["ssh_config"], "-o", "ControlPath=%s/%%h" % where]
        names = "\n".join(files["addresses"].split(",")).encode()

        def each(*words):
            return Ran(["xargs", "-P", "8", "-I", "{}", "ssh", *options, *words], env=files["env"], data=names)

        each("-M", "-N", "-f", "{}").check()
        try:
            masters = [pid for pid in children_of(os.getpid()) if "ControlPath" in command_line(pid)]
            fleet.reset()
            with Cpu(masters) as cpu:
                ran = each("{}", "true").check()
            stats = fleet.stats(True)
            assert (stats["execs"], stats["connections"]) == (self.hosts, 0), stats
            assert len(masters) == self.hosts, masters
        finally:
            each("-O", "exit", "{}")
        return (ran.cpu_s + cpu.s) * 1000 / self.hosts
