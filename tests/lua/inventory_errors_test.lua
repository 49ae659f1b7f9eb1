-- SPDX-License-Identifier: MIT
-- Broken inventories: the message names file and line and what would be right. Any text at all is
-- answered in time and without a crash.

local inventory = require "exed.inventory"
local t = require "support"

local function broken(name, text, line, part, options)
  local found, err = inventory.parse(name, text, options)
  t.eq(found, nil, text)
  t.eq(err.code, "inventory")
  t.has(err.message, ("%s:%d: "):format(name, line), text)
  t.has(err.message, part, text)
end

local function warned(name, text, part)
  local inv = assert(inventory.parse(name, text))
  t.has(table.concat(inv.warnings, "\n"), part)
  return inv
end

t.test("a broken INI file says where it is broken and what would be right", function()
  broken("f", "a\n[web\n", 2, "bad host '[web': a '[' without ']'")
  broken("f", "[web server]\na\n", 1, "without blanks")
  broken("f", "[]\na\n", 1, "expected [group], [group:vars] or [group:children]")
  broken("f", "[web:var]\n", 1, "no known kind, did you mean 'vars'? (hosts, vars or children)")
  broken("f", "[web]\na x\n", 2, "expected key=value after the host name, got 'x'")
  broken("f", "[web]\na =1\n", 2, "expected key=value")
  broken("f", "[web]\n[web:vars]\nx\n", 3, "expected key=value in [web:vars], got 'x'")
  broken("f", "[web:vars]\nx=1\n", 1, "not defined, add [web]")
  broken("f", "[web]\n[wab:vars]\nx=1\n", 2, "did you mean 'web'")
  broken("f", "[web]\n[s:children]\nweb\ndb\n", 4, "the group 'db', which is not defined")
  broken("f", "[s:children]\na b\n", 2, "expected the name of a group in [s:children]")
  broken("f", "[a:children]\nb\n[b:children]\na\n", 4, "makes a circle")
  broken("f", "[a:children]\na\n", 2, "its own child")
  broken("f", "[x]\na x='1\n", 2, "a quote (') is not closed")
  broken("f", "[x]\na x=\\\n", 2, "nothing follows the backslash")
  broken("f", "[x]\n---\n", 2, "begins a YAML file")
end)

t.test("a bad host name is refused with its line", function()
  broken("f", "[x]\n\n-rf\n", 3, "must not begin with '-'")
  broken("f", "[x]\na;b\n", 2, "letters, digits")
  broken("f", "[x]\na$(id)\n", 2, "letters, digits")
  broken("f", "[x]\na..b\n", 2, "two dots")
  broken("f", "[x]\n" .. ("a"):rep(300) .. "\n", 2, "at most 253")
  broken("f", "[x]\na:b\n", 2, "from 1 to 65535")
  broken("f", "[x]\na:99999\n", 2, "from 1 to 65535")
  broken("f", "[x]\na:b:c\n", 2, "only for a port")
  broken("f", "[x]\na:\n", 2, "from 1 to 65535")
  broken("f", "[x]\n[::1]:0\n", 2, "from 1 to 65535")
  broken("f", "[x]\n''\n", 2, "empty")
  broken("f", "[x]\nweb[3:1]\n", 2, "bad host 'web[3:1]': a range begins with its smaller value")
  broken("f", "[x]\nweb[01:5]\n", 2, "same length")
  broken("f", "[x]\nweb[1:900000]\n", 2, "too many names")
  broken("f", "[x]\na\nb\nc\n", 4, "more than 2 hosts", { max_hosts = 2 })
end)

t.test("a bad value of a variable that exed reads is refused with its line", function()
  broken("f", "[x]\na ansible_port=ssh\n", 2, "ansible_port: a port is a number from 1 to 65535")
  broken("f", "[x]\na ansible_port=0\n", 2, "got 0")
  broken("f", "[x]\na ansible_port=22.5\n", 2, "ansible_port")
  broken("f", "[x]\na ansible_user=-oProxyCommand=x\n", 2, "must not begin with '-'")
  broken("f", "[x]\na ansible_user='a b'\n", 2, "a user is made of")
  broken("f", "[x]\na ansible_user='[1]'\n", 2, "ansible_user: must be text, got a table")
  broken("f", "[x]\na ansible_host=-x\n", 2, "must not begin with '-'")
  broken("f", "[x]\na ansible_host=[::1]\n", 2, "without brackets")
  broken("f", "[x]\na ansible_host='{{ lookup(1) }}'\n", 2, "templates are not evaluated")
  broken("f", "[x]\na ansible_private_key_file=~bob/k\n", 2, "another user")
  broken("f", "[x]\na exed_shell=bash\n", 2, "exed_shell: must be raw or sh, got 'bash'")
  broken("f", "[x]\na exed_fence_dir=tmp\n", 2, "absolute path")
  broken("f", "[x]\na exed_disabled=[1]\n", 2, "a reason of at most 200 bytes, or true or false")
  broken("f", "[x]\na exed_disabled=" .. ("x"):rep(201) .. "\n", 2, "a reason of at most 200")
  broken("f", "[x]\n[x:vars]\nansible_port=x\n", 3, "ansible_port")
  broken("f", "[x]\n[x:vars]\nansible_group_priority=high\n", 3, "whole number")
  broken("f.yml", "all:\n  vars:\n    ansible_port: 70000\n", 3, "got 70000")
  local inv = assert(inventory.parse("f", "a ansible_host=fe80::1%eth0 ansible_user=DOM\\\\me\n"))
  t.eq({ inv.hosts[1].address, inv.hosts[1].user }, { "fe80::1%eth0", "DOM\\me" })
end)

t.test("a broken YAML file says where it is broken and what would be right", function()
  broken("f.yml", "all:\n  hosts: [a\n  b: c\n", 3, "this is not YAML")
  broken("f.yml", "all:\n\thosts:\n", 2, "tab")
  broken("f.yml", "- a\n- b\n", 1, "a mapping of groups, such as 'all:', got a list")
  broken("f.yml", "just text\n", 1, "got 'just text'")
  broken("f.yml", "all:\n  hosts:\n    - a\n    - b\n", 3,
    "'hosts' of the group 'all' must be a mapping (each name followed by ':'), got a list")
  broken("f.yml", "all:\n  hosts: 5\n", 2, "must be a mapping")
  broken("f.yml", "all:\n  vars: [1]\n", 2, "'vars' of the group 'all' must be a mapping")
  broken("f.yml", "all:\n  children: [web]\n", 2, "must be a mapping")
  broken("f.yml", "all:\n  hosts:\n    12:\n", 3, "must be text, got 12: put it in quotes")
  broken("f.yml", "all:\n  hosts:\n    a: b\n", 3, "of the host 'a' must be a mapping")
  broken("f.yml", "all: text\n", 1, "the group 'all' must be a mapping")
  broken("f.yml", "yes: {hosts: {a: }}\n", 1, "group name must be text")
  broken("f.yml", "all: {vars: {1: x}}\n", 1, "name of a variable must be text")
  broken("f.yml", "all:\n  hosts: {a: *x}\n", 2, "alias *x has no anchor")
  broken("f.yml", "all: &x\n  vars: {a: *x}\n", 2, "inside itself")
  broken("f.yml", "all:\n  vars: {a: !!python/name:os.system x}\n", 2, "YAML tag")
  broken("f.yml", "all:\n  vars: {a: !!int x}\n", 2, "no value for the YAML tag")
  broken("f.yml", "all:\n  vars: {<<: 5}\n", 2, "'<<' merges a mapping")
  broken("f.yml", "all:\n  vars: {[1]: 5}\n", 2, "a key must be a single value")
  broken("f.yml", "all:\n---\nall:\n", 2, "second YAML document")
  broken("f.yml", "a:\n  children:\n    b:\n      children:\n        a:\n", 3, "circle")
  broken("f.yml", "plugin: aws_ec2\n", 1, "inventory plugin")
  broken("f.yml", "all: " .. ("["):rep(100) .. "\n", 1, "levels of nesting")
  broken("f.yml", "all:\n  hosts:\n    'a b':\n", 3, "bad host name 'a b'")
end)

t.test("what is no inventory at all is named", function()
  broken("f", "#!/usr/bin/python\nprint(1)\n", 1, "this is a script")
  broken("f", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", 1, "encrypted by ansible-vault")
  broken("f", "a\nb\0c\n", 2, "a NUL byte")
  local found, err = inventory.load "/nonexistent/hosts"
  t.eq(found, nil)
  t.has(err.message, "/nonexistent/hosts: No such file or directory")
end)

t.test("what is left out is warned of, with file and line", function()
  warned("f.yml", "all:\n  host: {a: }\n  hosts: {b: }\n",
    "f.yml:2: 'host' in the group 'all' is left out, did you mean 'hosts'?")
  warned("f", "[web]\nweb\n", "f:2: 'web' names a host and a group")
  warned("f", "a\nb exed_disbled=repair\n",
    "f:2: exed_disbled: not a variable of exed, did you mean 'exed_disabled'?")
  warned("f", "[web]\na\n[web:vars]\nexed_x=1\n", "f:4: exed_x: not a variable of exed: these are "
    .. "exed_disabled, exed_fence_dir, exed_jump, exed_shell")
  warned("f.yml", "'my group': {hosts: {a: }}\n", "patterns cannot name")
end)

t.test("aliases cannot make a small file large", function()
  local parts = { "a0: &a0 {hosts: {h: }}" }
  for i = 1, 40 do
    parts[#parts + 1] = ("a%d: &a%d {children: {x%d: *a%d, y%d: *a%d}}"):format(i, i, i, i - 1, i,
      i - 1)
  end
  local found, err = inventory.parse("f.yml", table.concat(parts, "\n"))
  t.eq(found, nil)
  t.has(err.message, "which is the limit")
end)

-- A random text of pieces that the formats give a meaning, the same in each run.
local function random_text(pieces, random)
  local parts = {}
  for i = 1, random(1, 40) do parts[i] = pieces[random(#pieces)] end
  return table.concat(parts)
end

local function generator(seed)
  local state = seed
  return function(low, high)
    if not high then low, high = 1, low end
    state = (state * 1103515245 + 12345) & 0x7fffffff
    return low + (state >> 8) % (high - low + 1)
  end
end

local INI_PIECES = {
  "\n", "\n", "\n", "[", "]", ":", "web", "a", "[web]\n", "[b:vars]\n", "[c:children]\n", "=", " ",
  "'", '"', "\\", "#", ";", "1", "01", "[1:3]", "[a:c]", "x=1", "{", "}", "(", ",", "None", "-",
  ".", "ansible_port=22", "ansible_host=", "\xff", "é", "\r", "\t", "::1", "{{", "[0", "'\\x4",
  "e5",
}
local YAML_PIECES = {
  "\n", "\n  ", "\n    ", "all:", "hosts:", "children:", "vars:", "web", "a: ", "- ", "[", "]",
  "{", "}", ",", "&x ", "*x", "<<: ", "!!str ", "!vault ", "|", ">", "'", '"', "\\", "#", "1",
  "~", "---",
  "?", "\t", "\xff", "x: 1", "[1:3]", ": ", "ansible_port: 22", "%", "...",
}

t.test("any text is parsed or refused, with a name and a message", function()
  for _, kind in ipairs { { "f", INI_PIECES }, { "f.yml", YAML_PIECES } } do
    local random = generator(42)
    local good = 0
    for _ = 1, 1000 do
      local text = random_text(kind[2], random)
      local found, err = inventory.parse(kind[1], text)
      if found then
        good = good + 1
        for _, host in ipairs(found.hosts) do inventory.describe(host) end
      else
        t.eq(type(err.message), "string")
        t.eq(err.message:find("cannot be read", 1, true), nil, text)
      end
    end
    t.eq(good > 20, true, "some are right")
  end
end)

t.test("10,000 hosts are read in well under a second, in small steps", function()
  local parts = { "[web]" }
  for i = 1, 10000 do
    parts[#parts + 1] = ("web%05d.example.com ansible_host=10.0.%d.%d"):format(i, i // 256, i % 256)
  end
  local pauses = 0
  local inv = assert(inventory.parse("f", table.concat(parts, "\n"), {
    pause = function() pauses = pauses + 1 end,
  }))
  t.eq(#inv.hosts, 10000)
  t.eq(pauses >= 40, true, "pauses")
end)

t.done()
