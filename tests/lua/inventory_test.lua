-- SPDX-License-Identifier: MIT
-- Inventories: both formats, what variables become, and where a broken file says it is broken.

local inventory = require "exed.inventory"
local t = require "support"

local function ini(text, options) return assert(inventory.parse("hosts", text, options)) end
local function yml(text, options) return assert(inventory.parse("hosts.yml", text, options)) end

local function names(list)
  local found = {}
  for i, host in ipairs(list) do found[i] = host.name end
  return table.concat(found, " ")
end

t.test("an INI file gives hosts in the order of the file, with groups and variables", function()
  local inv = ini [[
alone
[web]
web[01:03].example.com x=1
[db]
db1 ansible_host=10.0.0.1 ansible_port=2222 ansible_user=dba # rest=1
[site:children]
web
db
[site:vars]
region = eu
]]
  t.eq(names(inv.hosts), "alone web01.example.com web02.example.com web03.example.com db1")
  t.eq(inv:host("web02.example.com").index, 3)
  t.eq(inv:host("web02.example.com").groups, { all = true, site = true, web = true })
  t.eq(inv:host("alone").groups, { all = true, ungrouped = true })
  t.eq(inv:host("alone").vars.region, nil)
  t.eq(inv:host("web01.example.com").vars.region, "eu")
  t.eq(inv:host("web01.example.com").vars.x, 1)
  t.eq(names(inv:members "site"), "web01.example.com web02.example.com web03.example.com db1")
  t.eq(inv:members "none", nil)
end)

t.test("a group that is listed as a child before its section counts", function()
  local inv = ini "[all_web:children]\nweb\n[web]\na\nb\n"
  t.eq(names(inv:members "all_web"), "a b")
end)

t.test("a host is out of service with a reason, or without one", function()
  local inv = ini([[
a exed_disabled="disk is being replaced"
b exed_disabled=yes
c exed_disabled=no
d exed_disabled=''
e
[g]
f
h exed_disabled=false
[g:vars]
exed_disabled=moving
]])
  local found = {}
  for _, host in ipairs(inv.hosts) do found[host.name] = host.disabled end
  t.eq(found, { a = "disk is being replaced", b = true, f = "moving" })
  t.eq(inventory.describe(inv:host "f").disabled, "moving")
end)

t.test("how a host is reached is read from its variables", function()
  local inv = ini([[
plain
full ansible_host=10.0.0.2 ansible_port=2222 ansible_user=me ansible_private_key_file=~/.ssh/k
old ansible_ssh_host=10.0.0.3 ansible_ssh_port=23 ansible_ssh_user=you
near ansible_connection=local
far exed_jump=gate exed_shell=raw exed_fence_dir=/var/fence exed_disabled=yes
hop ansible_ssh_common_args='-o StrictHostKeyChecking=yes -J me@gate:2200'
hop2 ansible_ssh_common_args="-o ProxyJump=gate2"
named ansible_host="{{ inventory_hostname }}.example.com"
boat ansible_connection=docker
key ansible_ssh_private_key_file=keys/id
]], { home = "/home/op" })
  local full, old, far = inv:host "full", inv:host "old", inv:host "far"
  t.eq({ inv:host("plain").address, inv:host("plain").connection }, { "plain", "ssh" })
  t.eq(inv:host("plain").port, nil)
  t.eq({ full.address, full.port, full.user, full.key },
    { "10.0.0.2", 2222, "me", "/home/op/.ssh/k" })
  t.eq({ old.address, old.port, old.user }, { "10.0.0.3", 23, "you" })
  t.eq(inv:host("near").connection, "local")
  t.eq({ far.jump, far.shell, far.fence_dir, far.disabled }, { "gate", "raw", "/var/fence", true })
  t.eq(inv:host("hop").jump, "me@gate:2200")
  t.eq(inv:host("hop2").jump, "gate2")
  t.eq(inv:host("named").address, "named.example.com")
  t.eq(inv:host("boat").connection, "docker")
  t.eq(inv:host("key").key, "keys/id")
end)

t.test("passwords are in no variables and no description", function()
  local inv = ini [[
a ansible_password=s3cret ansible_ssh_pass=other x=1
b
[all:vars]
ansible_become_pass=root-s3cret
]]
  local a = inv:host "a"
  t.eq(inventory.vars(a), { x = 1 })
  t.eq(inv:secret(a, "ansible_password"), "s3cret")
  t.eq(inv:secret(inv:host "b", "ansible_become_pass"), "root-s3cret")
  t.eq(t.show(inventory.describe(a)):find("s3cret", 1, true), nil)
  for _, host in ipairs(inv.hosts) do t.eq(t.show(host):find("s3cret", 1, true), nil) end
end)

t.test("who becomes whom is read, and a way that is not known is known to be there", function()
  local inv = ini [[
plain ansible_become_user=app
root ansible_become=yes
app ansible_become=true ansible_become_user=app ansible_become_method=ansible.builtin.sudo
off ansible_become=no ansible_become_method=su
su ansible_become=1 ansible_become_method=su
near ansible_become=1 ansible_connection=local
[all:vars]
ansible_become_password=s3cret
]]
  local function of(name) return { inv:host(name).become, inv:host(name).become_other } end
  t.eq({ of "plain", of "root", of "app", of "off" }, { {}, { "root" }, { "app" }, {} })
  t.eq({ of "su", of "near" }, { { nil, true }, { nil, true } })
  t.eq(inv:become_password(inv:host "app"), "s3cret")
  t.eq(ini("a ansible_sudo_pass=12"):become_password { name = "a" }, "12")
  t.eq(ini("a"):become_password { name = "a" }, nil)
  for _, line in ipairs { "a ansible_become=maybe", "a ansible_become_user=-x",
    "a ansible_become_user='{{ x }}'", "a ansible_become_user='a b'" } do
    local found, err = inventory.parse("hosts", line .. "\n")
    t.eq(found, nil, line)
    t.has(err.message, line:match "ansible_%w+", line)
  end
end)

t.test("values of key=value are Python literals, or text", function()
  local cases = {
    ["5"] = 5, ["-5"] = -5, ["1.5"] = 1.5, ["True"] = true, ["False"] = false, ["true"] = "true",
    ["0x1f"] = 31, ["0755"] = "0755", ["1_000"] = 1000, ["1__0"] = "1__0", ["00"] = 0,
    ["10.0.0.1"] = "10.0.0.1", ["'5'"] = "5", ["[1, 'a', None]"] = { 1, "a", inventory.null },
    ["{'k': [1, 2]}"] = { k = { 1, 2 } }, ["(1,)"] = { 1 }, ["(1)"] = 1, ["1,2"] = { 1, 2 },
    ["[1, x]"] = "[1, x]", ["[1"] = "[1", ["True # yes"] = true, ["a # b"] = "a # b",
    ["'a' 'b'"] = "ab", ["1+2"] = "1+2", ["--1"] = "--1", ["'\\x41\\n'"] = "A\n", [""] = "",
    ["99999999999999999999"] = "99999999999999999999", ["1e3"] = 1000.0, ["12:30"] = "12:30",
    ["r'a\\n'"] = "a\\n", ["u'x'"] = "x", ["{1, 1.5}"] = { 1, 1.5 }, ["{}"] = {}, ["+3"] = 3,
    ["[[[]]]"] = { { {} } }, [".5"] = 0.5, ["5."] = 5.0, ["1e-2"] = 0.01, ["0o17"] = 15,
    ["0b11"] = 3, ["'a"] = "'a", ["1 2"] = "1 2", ["[1,,2]"] = "[1,,2]", ["{1: 2}"] = { [1] = 2 },
    ["[" .. ("["):rep(200)] = "[" .. ("["):rep(200), ["'\\u00e9'"] = "é", ["1j"] = "1j",
  }
  local parse = require "exed.inventory.literal"
  for text, want in pairs(cases) do
    if text ~= "[1, 'a', None]" then t.eq(parse(text), want, text) end
  end
  t.eq(tostring(parse("[None]")[1]), "null")
end)

t.test("host lines are split as a shell does, and '#' ends them", function()
  local split = require "exed.inventory.split"
  t.eq(split [[a b="c d" e='f "g"' h\ i j#k l]], { "a", "b=c d", 'e=f "g"', "h i", "j" })
  t.eq(split [[a "x\"y\\z\n" '']], { "a", [[x"y\z\n]], "" })
  t.eq(split "a # b", { "a" })
  t.eq(split "  ", {})
  for _, text in ipairs { "a 'b", 'a "b', "a b\\", 'a "b\\' } do
    local found, problem = split(text)
    t.eq(found, nil, text)
    t.eq(type(problem), "string")
  end
end)

t.test("ranges: digits, zero-padded, letters, steps, several in one name", function()
  local expand = require("exed.inventory.names").expand
  local function all(text) return table.concat(assert(expand(text, 1000)), " ") end
  t.eq(all "w[8:11]", "w8 w9 w10 w11")
  t.eq(all "w[08:11].x", "w08.x w09.x w10.x w11.x")
  t.eq(all "w[1:9:4]", "w1 w5 w9")
  t.eq(all "[a:c]-[1:2]", "a-1 a-2 b-1 b-2 c-1 c-2")
  t.eq(all "w[:2]", "w0 w1 w2")
  t.eq(all "w[y:B]", "wy wz wA wB")
  t.eq(all "w[000:002]", "w000 w001 w002")
  for text, part in pairs {
    ["w[3:1]"] = "smaller value", ["w[1]"] = "[first:last]", ["w[01:5]"] = "same length",
    ["w[1:]"] = "last value", ["w[1:5:0]"] = "step", ["w[1:5:x]"] = "step",
    ["w[1:x]"] = "two numbers",
    ["w[1:99999999]"] = "too many", ["w[1:100][1:100]"] = "too many", ["w[1:2"] = "without ']'",
    ["w1:2]"] = "without '['", ["w[1:5:]"] = "[first:last]", ["w[]"] = "[first:last]",
    ["w[1:99999999999999999999]"] = "two numbers", ["w[-1:5]"] = "two numbers",
  } do
    local found, problem = expand(text, 1000)
    t.eq(found, nil, text)
    t.has(problem, part, text)
  end
end)

t.test("ports are taken off names, and IPv6 addresses stay whole", function()
  local inv = ini "a:2222\n[web]\nb[1:2]:23\n[::1]:24\nfe80::1\n[2001:db8::2]\n10.0.0.1:25\n"
  t.eq(names(inv.hosts), "a b1 b2 ::1 fe80::1 2001:db8::2 10.0.0.1")
  t.eq({ inv:host("a").port, inv:host("b2").port, inv:host("::1").port }, { 2222, 23, 24 })
  t.eq({ inv:host("::1").address, inv:host("10.0.0.1").port }, { "::1", 25 })
  t.eq(inv:host("fe80::1").port, nil)
end)

t.test("IPv6 addresses are told from other names", function()
  local is_ipv6 = require("exed.inventory.names").is_ipv6
  for _, text in ipairs {
    "::", "::1", "1::", "fe80::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1::8",
    "1:2:3:4:5:6:1.2.3.4", "2001:DB8::A",
  } do t.eq(is_ipv6(text), true, text) end
  for _, text in ipairs {
    "", ":", "a", "a:b", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", ":::", "1::2::3", ":1::2",
    "1::2:",
    "g::1", "12345::", "::1.2.3", "web::1", "1:2:3:4:5:6:7:8::", "1.2.3.4",
    "1:2:3:4:5:6:7:1.2.3.4",
  } do t.eq(is_ipv6(text), false, text) end
end)

t.test("a YAML file gives the same, keeps the order of its keys, and takes strings for one",
  function()
  local inv = yml [[
all:
  hosts:
    top: {ansible_host: 10.0.0.9}
  vars: {v: all, w: all}
  children:
    zweb:
      hosts:
        web[2:3]: {x: yes, port: 0755, mac: "aa", when: 00:11:22}
        web1:
      vars: {v: web, list: [1, two, null], none: ~}
    adb:
      hosts: db1
    empty:
]]
  t.eq(names(inv.hosts), "top web2 web3 web1 db1")
  local web = inv:host "web2"
  t.eq({ web.vars.x, web.vars.port, web.vars.when, web.vars.v, web.vars.w },
    { true, 493, "00:11:22", "web", "all" })
  t.eq({ web.vars.list[1], web.vars.list[2], web.vars.none }, { 1, "two", nil })
  t.eq(inv:host("top").address, "10.0.0.9")
  t.eq(names(inv:members "empty"), "")
  t.eq(names(inv:members "all"), "top web2 web3 web1 db1")
end)

t.test("scalars in YAML are those of YAML 1.1", function()
  local scalar = require "exed.inventory.scalar"
  for text, want in pairs {
    yes = true, Off = false, y = "y", ["12"] = 12, ["012"] = 10, ["08"] = "08", ["0x1F"] = 31,
    ["0b11"] = 3, ["1_000"] = 1000, ["-7"] = -7, ["1:30"] = 90, ["00:11:22"] = "00:11:22",
    ["1.5"] = 1.5, ["1e3"] = "1e3", ["1.0e+3"] = 1000.0, [".5"] = 0.5, ["1."] = 1.0, ["0"] = 0,
    [".inf"] = math.huge, ["-.INF"] = -math.huge, ["2024-01-01"] = "2024-01-01", ["-"] = "-",
    ["99999999999999999999"] = "99999999999999999999", ["10.0.0.1"] = "10.0.0.1", [":"] = ":",
    ["1:70"] = "1:70", ["1:30.5"] = 90.5, ["0o17"] = "0o17", ["+1"] = 1, ["1:2:"] = "1:2:",
    ["-0x10"] = -16, ["_1"] = "_1",
  } do t.eq(scalar(text), want, text) end
  t.eq(tostring(scalar "~"), "null")
end)

t.test("anchors, merges and tags work, a repeated key counts last and is warned of", function()
  local inv = yml [[
all:
  hosts:
    a: &base {x: 1, y: 1}
    b: {<<: *base, y: 2}
    c: {v: !!str 12, u: !unsafe "{{ x }}", <<: [*base, {z: 3}]}
    d: {k: !vault abc}
  vars: {p: 1, p: 2}
]]
  t.eq(inventory.vars(inv:host "b"), { x = 1, y = 2, p = 2 })
  t.eq(inventory.vars(inv:host "c"), { v = "12", u = "{{ x }}", x = 1, y = 1, z = 3, p = 2 })
  t.eq(inv:host("d").vars.k, nil)
  t.has(table.concat(inv.warnings, "\n"),
    "hosts.yml:6: 'k' is encrypted by ansible-vault and left out")
  t.has(table.concat(inv.warnings, "\n"), "hosts.yml:7: the key 'p' is there twice")
end)

t.test("a deeper group wins, then priority, then the later name; the host wins over all", function()
  local inv = ini [[
[a]
h v=host
i
[b]
i
[top:children]
a
[all:vars]
v=all
[top:vars]
v=top
w=top
[a:vars]
v=a
x=a
[b:vars]
v=b
x=b
ansible_group_priority=10
[c]
j
[d]
j
[c:vars]
v=c
ansible_group_priority=2
[d:vars]
v=d
]]
  t.eq(inv:host("h").vars.v, "host")
  t.eq(inv:host("i").vars.v, "a")
  t.eq(inv:host("i").vars.w, "top")
  t.eq(inv:host("j").vars.v, "c")
  t.eq(inv:host("j").vars.ansible_group_priority, nil)
end)

t.test("hosts of the same groups share their variables, and pairs sees all of them", function()
  local inv = ini "[w]\na\nb\nc x=1\nd y=None\n[w:vars]\ny=2\n"
  t.eq(rawequal(inv:host("a").vars, inv:host("b").vars), true)
  local seen = {}
  for key, found in pairs(inv:host("c").vars) do seen[key] = found end
  t.eq(seen, { x = 1, y = 2 })
  t.eq(inv:host("d").vars.y, nil)
end)

t.test("lists and nulls in variables can be those of the JSON module", function()
  local value = require "exed.inventory.value"
  local null, mt = value.null, value.array_mt
  local mine, my_mt = {}, {}
  inventory.use_json { null = mine, array = function(list) return setmetatable(list, my_mt) end }
  local list = yml("all: {hosts: {a: {l: [~, 1], n: ~}}}"):host("a").vars.l
  local from_ini = ini("a l='[None]'"):host("a").vars.l
  value.null, value.array_mt = null, mt
  t.eq(rawequal(list[1], mine) and rawequal(getmetatable(list), my_mt), true)
  t.eq(rawequal(from_ini[1], mine), true)
end)

t.test("the format is seen by the text first, then by the ending", function()
  local function hosts(name, text) return names(assert(inventory.parse(name, text)).hosts) end
  t.eq(hosts("hosts", "all:\n  hosts:\n    a:\n"), "a")
  t.eq(hosts("hosts", "---\nall: {hosts: {a: }}\n"), "a")
  t.eq(hosts("hosts", '{"all": {"hosts": {"a": null, "b": {"x": "c\\/d"}}}}'), "a b")
  t.eq(hosts("hosts.yml", "# c\n[web]\na\n"), "a")
  t.eq(hosts("hosts.yml", "all:\n  hosts: {a: }"), "a")
  t.eq(hosts("hosts", "a:22\nb x=1\n"), "a b")
  t.eq(hosts("hosts.ini", "a\n"), "a")
  t.eq(hosts("hosts", "\239\187\191[web]\r\na\r\nb\r\n"), "a b")
  t.eq(hosts("hosts", ""), "")
  t.eq(hosts("hosts.yml", "# nothing\n"), "")
end)

t.done()
