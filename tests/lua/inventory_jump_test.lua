-- SPDX-License-Identifier: MIT
-- Jump hosts in an inventory: what names them, and which way to a host comes of it.

local inventory = require "exed.inventory"
local jump = require "exed.inventory.jump"
local t = require "support"

local function ini(text) return assert(inventory.parse("hosts", text)) end

-- "me@a:2200,b" for a list of hops.
local function way(host)
  local list = {}
  for i, hop in ipairs(host.hops or {}) do
    local user, port = hop.user and hop.user .. "@" or "", hop.port and ":" .. hop.port or ""
    list[i] = user .. hop.address .. port
  end
  return table.concat(list, ",")
end

t.test("options for ssh name a jump host in each way that ssh takes", function()
  for _, text in ipairs {
    "-J gate", "-Jgate", "-o ProxyJump=gate", "-oProxyJump=gate", "-o 'ProxyJump gate'",
    "-o proxyjump=gate", [[-o "ProxyJump = gate"]], "-J gate -J other",
    "-o ControlMaster=auto -o ControlPersist=60s -o ControlPath=/x -J gate",
  } do
    local name, unknown = jump.read(text)
    t.eq({ text, name, unknown }, { text, "gate", {} })
  end
end)

t.test("what is not understood is named with its value", function()
  local name, unknown = jump.read "-q -o Foo=bar -i 'my key' -oX=1 -J a,b -p22 word"
  t.eq(name, "a,b")
  t.eq(unknown, { "-q", "-o Foo=bar", "-i my key", "-o X=1", "-p 22", "word" })
  t.eq({ jump.read "-o 'ProxyCommand=ssh -W %h:%p -J x gate'" },
    { nil, { "-o ProxyCommand=ssh -W %h:%p -J x gate" } })
  local _, broken = jump.read "-o 'a"
  t.eq(#broken, 1)
end)

t.test("a warning names file, line and option, and the host stays", function()
  local inv = ini "a\nb ansible_ssh_common_args='-o StrictHostKeyChecking=no -J a'\n"
  t.eq(inv.warnings, { "hosts:2: ansible_ssh_common_args: not understood, and left out: "
    .. "-o StrictHostKeyChecking=no" })
  t.eq(way(inv:host "b"), "a")
  t.eq(inv:host("b").problem, nil)
end)

t.test("a jump host is an inventory host or an address", function()
  local inv = ini [[
gate ansible_host=10.0.0.1 ansible_port=2222 ansible_user=op ansible_ssh_private_key_file=/k
a exed_jump=gate
b exed_jump=me@gate:23
c exed_jump=you@[::1]:24
d exed_jump=none
e exed_jump=gate ansible_ssh_common_args="-J other"
f ansible_ssh_extra_args="-J other"
g exed_jump=gate ansible_connection=local
]]
  t.eq(way(inv:host "a"), "op@10.0.0.1:2222")
  t.eq(inv:host("a").hops[1].key, "/k")
  t.eq(way(inv:host "b"), "me@10.0.0.1:23")
  t.eq(way(inv:host "c"), "you@::1:24")
  t.eq({ way(inv:host "d"), inv:host("d").jump }, { "", nil })
  t.eq(way(inv:host "e"), "op@10.0.0.1:2222")
  t.eq(way(inv:host "f"), "other")
  t.eq(way(inv:host "g"), "")
end)

t.test("jump hosts have jump hosts, and a host is not its own", function()
  local inv = ini [[
[all:vars]
exed_jump=outer,inner
[x]
outer
inner
far
near exed_jump=outer
deep exed_jump=far
]]
  t.eq(way(inv:host "outer"), "")
  t.eq(way(inv:host "inner"), "outer")
  t.eq(way(inv:host "far"), "outer,inner")
  t.eq(way(inv:host "near"), "outer")
  t.eq(way(inv:host "deep"), "outer,inner,far")
  t.eq(inv.warnings, {})
end)

t.test("hosts with the same jump hosts share the way, whoever is first in the file", function()
  for _, order in ipairs { "gate\na\nb\n", "a\ngate\nb\n" } do
    local inv = ini(order .. "[all:vars]\nexed_jump=gate\n")
    t.eq({ way(inv:host "a"), way(inv:host "gate") }, { "gate", "" })
    t.eq(rawequal(inv:host("a").hops, inv:host("b").hops), true)
  end
end)

t.test("a circle, a jump host that is no ssh host and too many are said", function()
  local inv = ini [[
a exed_jump=b
b exed_jump=a
c exed_jump=a
l ansible_connection=local
d exed_jump=l
e exed_jump=h1,h2,h3,h4,h5,h6,h7,h8,h9
f ansible_ssh_common_args="-J 'a b'"
]]
  for name, want in pairs {
    a = "circle", b = "circle", c = "circle", d = "not reached by ssh", e = "more than 8",
    f = "jump host",
  } do
    local host = inv:host(name)
    t.eq({ name, (host.problem or ""):find(want, 1, true) ~= nil }, { name, true })
    t.eq(host.hops, nil)
  end
  t.eq(#inv.warnings, 5) -- b and c name the same jump host
  t.eq(inv.warnings[1]:find("hosts:1: a: ", 1, true), 1)
end)

t.test("a bad name in exed_jump is an error of the file", function()
  for _, bad in ipairs { "a,,b", ",a", "a:99999", "me me@a", "a/b" } do
    local inv, err = inventory.parse("hosts", ("x exed_jump='%s'\n"):format(bad))
    t.eq({ bad, inv }, { bad, nil })
    t.eq(err.message:find("hosts:1: exed_jump: ", 1, true), 1)
  end
end)

t.done()
