# SPDX-License-Identifier: MIT
"""Inventories and patterns mean here what they mean to Ansible.

The same files are read by `ansible-inventory --list` and by lua/exed/inventory, the same patterns are
asked of `ansible --list-hosts`. Where exed differs on purpose, DIFFERENT says so and is checked too.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXED_RUN = os.path.join(os.environ.get("EXED_BUILD", os.path.join(ROOT, "build")), "exed-run")
LIMIT = 60  # seconds for one program
SECRETS = ("ansible_password", "ansible_ssh_pass", "ansible_become_pass", "ansible_become_password")

# Prints what exed makes of a file: hosts with variables and groups, and the hosts of each pattern.
DUMP = r"""
local inventory = require "exed.inventory"

local function text(value)
  return '"' .. value:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

local function encode(value)
  if type(value) == "string" then return text(value) end
  if type(value) ~= "table" then return tostring(value) end
  if value == require("exed.inventory.value").null then return "null" end
  local meta, parts = getmetatable(value), {}
  if meta and meta.__name == "json.array" then
    for i, item in ipairs(value) do parts[i] = encode(item) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, item in pairs(value) do
    parts[#parts + 1] = text(tostring(key)) .. ":" .. encode(item)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function names(hosts)
  local list = setmetatable({}, { __name = "json.array" })
  for i, host in ipairs(hosts or {}) do list[i] = host.name end
  return list
end

local inv, err = inventory.load(arg[1])
if not inv then
  print(encode { error = err.message })
  return
end
local out = { hosts = {}, groups = {}, patterns = {} }
for _, host in ipairs(inv.hosts) do out.hosts[host.name] = inventory.vars(host) end
for name in pairs(inv.groups) do out.groups[name] = names(inv:members(name)) end
for i = 2, #arg do out.patterns[arg[i]] = names(inv:match(arg[i])) end
print(encode(out))
"""

FILES = {}
FILES["plain"] = """\
green ansible_host=10.0.0.1   # by the door
bare:2222

[web]
web[01:05].example.com ansible_user=deploy x=1
spare y='a b' z="two words" hash=a#b
[db]
db-[a:c] ansible_port=5022
db[1:9:4]-[x:y]
spare

[prod:children]
web
db
[cache]
c1 ansible_ssh_host=10.0.0.9
c2:23 ansible_connection=local
2001:db8::1
[2001:db8::2]:2022 ansible_user=v6

[web:vars]
http_port=8080
region = eu # a comment that stays in text
flag = True # a comment behind a literal
quoted='text'
[prod:vars]
region=all
ansible_user=root
[all:vars]
everywhere=yes
"""
FILES["values.ini"] = """\
a i=5 n=-5 f=1.5 t=True u=true none=None s='"5"' l='[1, "two", 3.0]' d="{'k': {'v': [1]}}" e=
b hex=0x1f oct=0o17 old=0755 ip=10.0.0.1 ver=1.2.3 date=2024-01-01 plus=+3 exp=1e3 under=1_000
c tuple=(1,2) bare=1,2 paren=(5) name=foo path=/a/b-c.d colon=12:30 minus=- sum=1+2
d esc='"a\\tb\\x41"' raw="r'a\\b'" join="'a' 'b'" bad='[1, two]' open='[1' nested='[[],{}]' zero=0 zz=00
e ansible_password=hidden url=http://h:80/p?a=b ansible_port='22' pct=10% at=a@b dollar=$x tilde=~/x
[g]
a
[g:vars]
num=7
text=a b  c
eq=a=b=c
lst=[1, 2]
dict={'a': 1}
empty=
space = padded
semi=a;b
"""
FILES["tree"] = """\
[leaf]
one
two
[other]
two
three
[mid:children]
leaf
[top:children]
mid
other
[apple]
two
[zebra]
two
[all:vars]
v=all
w=all
[top:vars]
v=top
w=top
x=top
[mid:vars]
v=mid
x=mid
[leaf:vars]
v=leaf
[other:vars]
v=other
y=other
[apple:vars]
y=apple
p=apple
ansible_group_priority=10
[zebra:vars]
y=zebra
p=zebra
"""
FILES["late"] = """\
[all:children]
later
[site:children]
b
a
[b]
b1
[site:vars]
s=1
[a]
a1
[later]
l1
[empty]
"""
FILES["site.yml"] = """\
all:
  hosts:
    mail.example.com:
    "[2001:db8::7]:2022": {ansible_user: six}
  vars: {where: all, none: ~}
  children:
    web:
      hosts:
        www[01:03].example.com: {weight: 5}
        www02.example.com: {ansible_port: 2222, weight: 6}
      vars: {where: web, "on": yes, mode: 0755, mac: 00:11:22, time: 1:30, ver: 1.10, exp: 1e3}
    db:
      hosts: one.example.com
      children:
        replicas:
          hosts: {two.example.com: , three.example.com: {list: [1, two, {k: v}], text: "5"}}
          vars:
            where: replicas
            long: |
              two
              lines
      vars: {ansible_group_priority: 5, where: db}
    nothing:
extra:
  hosts: {mail.example.com: {b: &m {x: 1, y: 2}, c: {<<: *m, y: 3}}}
"""
FILES["site.json"] = """\
{"all": {"children": {"g": {"hosts": {"j1": {"n": 1, "f": 1.5, "s": "a\\u00e9\\/b", "t": true}, "j2": null}}},
 "vars": {"e": [], "o": {}}}}
"""
FILES["noext"] = "---\ngroup1:\n  hosts:\n    h[1:3]:\n"

# Inventories of several files: {name: {path: text}}; a text that begins with #! is an executable. The path
# that is given to both is the tree itself, or SOURCES[name] in it.
TREES = {}
TREES["merged"] = {
    "inv/01-hosts": "[web]\nw1 v=file w=file\nw2\n[db]\nd1\n[web:vars]\ng=web-ini\nh=web-ini\nboth=ini\n"
                    "[all:vars]\nall_ini=1\nall_both=ini\n[top:children]\nweb\ndb\n[top:vars]\nt=ini\n",
    "inv/02-more.yml": "web:\n  hosts:\n    w3: {v: yml}\n    w1: {w: later}\nnew:\n  hosts: {d1: }\n"
                       "  vars: {g: new-yml}\n",
    "inv/03": "[db:vars]\nlate=1\n[other:children]\nnew\n",
    "inv/sub/deep": "[deep]\nx1\n",
    "inv/backup~": "[", "inv/a.orig": "[", "inv/b.ini": "[", "inv/c.cfg": "[", "inv/d.md": "[", "inv/.e": "[",
    "inv/f.txt": "[", "inv/g.retry": "[", "inv/h.bak": "[", "inv/i.rst": "[",
    "inv/group_vars/all.yml": "all_both: file\ng: all-file\nall_file: [1, two, {k: v}]\n",
    "inv/group_vars/web/10.yml": "h: ten\nboth: ten\nempty:\n",
    "inv/group_vars/web/20.json": '{"h": "twenty", "n": 1.5}',
    "inv/group_vars/web/30": "thirty: yes\n",
    "inv/group_vars/web/more/40.yaml": "forty: 0755\n",
    "inv/group_vars/web/no.txt": "[", "inv/group_vars/web/.no": "[", "inv/group_vars/web/no.yml~": "[",
    "inv/group_vars/web/more.d/no.yml": "no: 1\n",
    "inv/group_vars/web.yml": "shadowed: 1\n",
    "inv/group_vars/db": "t: db-file\nansible_group_priority: 9\n",
    "inv/group_vars/top.yaml": "t: top-file\nboth: top-file\n",
    "inv/group_vars/new.json": '{"t": "new-file"}',
    "inv/group_vars/ungrouped.yml": "never: 1\n",
    "inv/group_vars/unknown.yml": "never: 2\n",
    "inv/group_vars/deep.yml": "",
    "inv/host_vars/w1.yml": "v: host-file\nh: host-file\n",
    "inv/host_vars/w2/a.yml": "v: a\nw: a\n", "inv/host_vars/w2/b": "w: b\n",
    "inv/host_vars/x1": "---\n",
    "inv/sub/group_vars/deep.yml": "not_here: 1\n",
}
TREES["beside"] = {
    "inv/hosts": "[a]\nh1\n[b]\nh1\n[a:vars]\nx=a\nansible_group_priority=5\n[b:vars]\nx=b\n",
    "inv/group_vars/a.yml": "y: a\n", "inv/group_vars/b.yml": "y: b\n",
    "inv/group_vars/all/one": "z: 1\n", "inv/host_vars/h1.yaml": "q: 1\n",
}
TREES["program"] = {
    "inv/run": "#!/bin/sh\ncat <<'END'\n" + json.dumps({
        "web": {"hosts": ["p2", "p1"], "vars": {"a": 1, "f": 1e3, "l": [], "o": {}, "none": None},
                "children": ["below"]},
        "below": ["p3"], "solo": {"colour": "red", "n": 5}, "void": [], "bare": {"vars": {"b": 1}},
        "_meta": {"hostvars": {"p1": {"v": 1, "deep": {"x": [1, {"y": "z"}]}}, "p3": {"a": "own"},
                               "stranger": {"v": 2}}},
    }) + "\nEND\n",
    "inv/static": "[web]\ns1\n[below:vars]\nstatic=1\n",
    "inv/group_vars/web.yml": "a: file\n",
}
TREES["asked"] = {
    "inv/run": "#!/bin/sh\ncase $1 in --list) echo '{\"g\": [\"k1\", \"k2\"]}' ;;\n"
               "--host) echo \"{\\\"me\\\": \\\"$2\\\"}\" ;; esac\n",
}
SOURCES = {"beside": "inv/hosts", "asked": "inv/run"}

PATTERNS = {
    "plain": [
        "all", "*", "web", "prod", "spare", "we*", "*.example.com", "web0[13]*", "web0?.example.com",
        "web:db", "web,db,green", "web:&db", "prod:!db", "!prod", "&db", "db:!spare:cache", "web:!web0*",
        "web[0]", "web[-1]", "web[1:2]", "web[2:]", "web*[0:1]", "2001:db8::1", "cache:!c*", "ungrouped",
        "db-[!a]", "none", "web:!none", "cache[0],green", "web[9:12]", "un*", "*[0]",
        r"~web0[12]\.", r"~(db|c)\d?$", r"web:!~.*[135]\.ex", r"all:&~(?i)SPARE", r"~.*\.com$,green", "~b",
    ],
    "tree": ["top", "mid", "other:!apple", "t*", "leaf:other", "all"],
    "late": ["all", "site", "empty", "a:b"],
    "site.yml": ["all", "web", "db", "replicas", "db:!replicas", "www*", "web:&extra"],
}

# pattern of the file "plain" -> hosts in exed. Ansible gives something else, for the reason named.
DIFFERENT = {
    "web[01:02].example.com": ["web01.example.com", "web02.example.com"],  # Ansible: no range of names
    "db-[a:c]": ["db-a", "db-b", "db-c"],  # Ansible: the characters a, ":" and c
    "web:!spare,c1": ["web0%d.example.com" % i for i in range(1, 6)] + ["c1"],  # Ansible: no ":" in a list
    "c1:2001:db8::1": ["c1", "2001:db8::1"],  # Ansible splits the address
    "c[12]": ["c1", "c2"],  # Ansible: place 12 of "c", which names nothing
    "web*[6:]": [],  # Ansible counts hosts twice that a group and their own name bring in
    "localhost": [],  # Ansible has one even when the inventory has not
}


# What `ansible --list-hosts` names, of many patterns in one process.
LIST_HOSTS = """
import json, sys
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
manager = InventoryManager(DataLoader(), sources=[sys.argv[1]])
json.dump([[str(host) for host in manager.list_hosts(pattern)] for pattern in sys.argv[2:]], sys.stdout)
"""


def ansible_python():
    """The interpreter that has Ansible."""
    with open(shutil.which("ansible"), encoding="utf-8") as f:
        return f.readline().removeprefix("#!").split()


def exed_command(script, *args):
    if os.access(EXED_RUN, os.X_OK):
        return [EXED_RUN, script, *args], dict(os.environ)
    path = ";".join("%s/lua/%s.lua" % (ROOT, part) for part in ("?", "?/init"))
    return ["lua5.4", script, *args], dict(os.environ, LUA_PATH=path + ";;")


def run(command, env):
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                          stdin=subprocess.DEVNULL, check=False, encoding="utf-8", cwd=ROOT)
    if done.returncode != 0:
        raise AssertionError("%s: exit %d\n%s%s" % (command, done.returncode, done.stdout, done.stderr))
    return done.stdout


@unittest.skipUnless(shutil.which("ansible-inventory"), "ansible-inventory is not installed (ansible-core)")
class InventoryTest(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="exed-inventory.")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        for name, text in FILES.items():
            with open(os.path.join(cls.dir, name), "w", encoding="utf-8") as f:
                f.write(text)
        for tree, files in TREES.items():
            for name, text in files.items():
                path = os.path.join(cls.dir, tree, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
                os.chmod(path, 0o755 if text.startswith("#!") else 0o644)
        cls.script = os.path.join(cls.dir, "dump.lua")
        with open(cls.script, "w", encoding="utf-8") as f:
            f.write(DUMP)
        cls.env = dict(os.environ, HOME=cls.dir, ANSIBLE_NOCOLOR="1", ANSIBLE_LOCALHOST_WARNING="0",
                       ANSIBLE_LOCAL_TEMP=os.path.join(cls.dir, "tmp"), LC_ALL="C.UTF-8")
        for name in ("ANSIBLE_CONFIG", "ANSIBLE_INVENTORY", "ANSIBLE_INVENTORY_ENABLED"):
            cls.env.pop(name, None)

    def exed(self, name, patterns=()):
        command, env = exed_command(self.script, os.path.join(self.dir, name), *patterns)
        answer = json.loads(run(command, dict(env, HOME=self.dir)))
        self.assertNotIn("error", answer)
        return answer

    def ansible_hosts(self, name, patterns):
        text = run([*ansible_python(), "-c", LIST_HOSTS, os.path.join(self.dir, name), *patterns], self.env)
        return dict(zip(patterns, json.loads(text), strict=True))

    @staticmethod
    def groups_of(listing):
        """Group -> set of its hosts and those of its descendants."""
        def members(group):
            entry = listing.get(group, {})
            found = set(entry.get("hosts", ()))
            return found.union(*(members(child) for child in entry.get("children", ())))
        return {group: members(group) for group in listing if group != "_meta"}

    def check_file(self, name):
        text = run(["ansible-inventory", "--list", "-i", os.path.join(self.dir, name)], self.env)
        listing, ours = json.loads(text), self.exed(name)
        theirs = self.groups_of(listing)
        hosts = {host: {} for host in theirs["all"]}
        for host, found in listing["_meta"]["hostvars"].items():
            hosts[host] = {k: v for k, v in found.items() if v is not None and k not in SECRETS}
            if "ansible_port" in hosts[host]:
                hosts[host]["ansible_port"] = int(hosts[host]["ansible_port"])
        self.assertEqual(ours["hosts"], hosts)
        for group, members in ours["groups"].items():
            self.assertEqual(set(members), theirs.get(group, set()), group)
        self.assertLessEqual({g for g in theirs if theirs[g]}, set(ours["groups"]))

    def check_tree(self, name):
        self.check_file(os.path.join(name, SOURCES.get(name, "inv")))

    def test_a_directory_with_files_of_variables_means_the_same(self):
        self.check_tree("merged")

    def test_files_of_variables_beside_a_file_mean_the_same(self):
        self.check_tree("beside")

    def test_what_a_program_prints_means_the_same(self):
        self.check_tree("program")

    def test_a_program_that_is_asked_for_each_host_means_the_same(self):
        self.check_tree("asked")

    def test_ini_means_the_same(self):
        self.check_file("plain")

    def test_values_mean_the_same(self):
        self.check_file("values.ini")

    def test_depth_and_priority_mean_the_same(self):
        self.check_file("tree")

    def test_groups_may_be_defined_late(self):
        self.check_file("late")

    def test_yaml_means_the_same(self):
        self.check_file("site.yml")

    def test_json_means_the_same(self):
        self.check_file("site.json")

    def test_a_file_without_ending_is_known_by_its_text(self):
        self.check_file("noext")

    def check_patterns(self, name):
        ours, theirs = self.exed(name, PATTERNS[name])["patterns"], self.ansible_hosts(name, PATTERNS[name])
        for pattern in PATTERNS[name]:
            with self.subTest(file=name, pattern=pattern):
                self.assertEqual(ours[pattern], theirs[pattern])

    def test_patterns_name_the_same_hosts_in_the_same_order(self):
        self.check_patterns("plain")

    def test_patterns_of_nested_groups(self):
        self.check_patterns("tree")

    def test_patterns_of_late_groups(self):
        self.check_patterns("late")

    def test_patterns_of_yaml(self):
        self.check_patterns("site.yml")

    def test_differences_are_those_that_are_meant(self):
        ours, theirs = self.exed("plain", DIFFERENT)["patterns"], self.ansible_hosts("plain", list(DIFFERENT))
        for pattern, want in DIFFERENT.items():
            with self.subTest(pattern=pattern):
                self.assertEqual(ours[pattern], want)
                self.assertNotEqual(theirs[pattern], want)


if __name__ == "__main__":
    unittest.main()
