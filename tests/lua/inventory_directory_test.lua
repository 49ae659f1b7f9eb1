-- SPDX-License-Identifier: MIT
-- Directories as inventories, and the variables in files beside an inventory. What they mean is
-- compared with Ansible in tests/functional/test_inventory_ansible.py; here is what breaks, what is
-- noticed and what it costs. The files are in memory.

local inventory_holder = require "exed.inventory.holder"
local t = require "support"

local VAULT = "!vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61\n"

-- A tree of files: path -> text; directories are made as needed.
local function fake_tree(files)
  local tree = { files = files, times = {}, asked = 0, clock = 1 }

  local function names_in(path)
    local names, seen = {}, {}
    for file in pairs(tree.files) do
      local name = file:sub(1, #path + 1) == path .. "/" and file:sub(#path + 2):match "^[^/]+"
      if name and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
    return names
  end

  function tree.stat(path)
    tree.asked = tree.asked + 1
    local text = tree.files[path]
    if text then
      return { type = "file", size = #text, mtime = tree.times[path] or 0, inode = 1, mode = 420 }
    end
    local names = names_in(path)
    if #names == 0 then return nil, { message = path .. ": No such file or directory" } end
    return { type = "directory", size = #names, mtime = 0, inode = 1, mode = 493 }
  end
  function tree.list(path) return names_in(path) end
  function tree.read(path) return tree.files[path] end
  function tree.write(path, text)
    tree.clock = tree.clock + 1
    tree.files[path], tree.times[path] = text, tree.clock
  end
  return tree
end

local function open(tree, path)
  return inventory_holder.open(path, { stat = tree.stat, list = tree.list, read = tree.read })
end

local function var(holder, host, name) return holder.inventory:host(host).vars[name] end

t.test("a directory is all its files, and what is broken names the file", function()
  local tree = fake_tree {
    ["inv/10-web"] = "[web]\na\nb\n", ["inv/20.yml"] = "db:\n  hosts:\n    c:\n    a:\n",
    ["inv/sub/more"] = "[db:vars]\nx=1\n", ["inv/web~"] = "[", ["inv/.hidden"] = "[",
    ["inv/notes.md"] = "[", ["inv/hosts.ini"] = "[web]\nz\n",
  }
  local holder, err = open(tree, "inv")
  t.eq(err, nil)
  t.eq(#holder.inventory.hosts, 3)
  t.eq({ var(holder, "a", "x"), var(holder, "b", "x") }, { 1, nil })
  t.has(table.concat(holder.inventory.warnings, "\n"), "inv/hosts.ini: is left out")
  tree.write("inv/20.yml", "db:\n  hosts: 7\n")
  local changed
  changed, err = holder:refresh()
  t.eq(changed, false)
  t.has(err.message, "inv/20.yml:2: ")
  t.eq(#holder.inventory.hosts, 3)
end)

t.test("files of variables count, those of hosts last", function()
  local tree = fake_tree {
    ["etc/hosts"] = "[web]\na v=1\nb\n[web:vars]\nw=1\n",
    ["etc/group_vars/all.yml"] = "w: 2\nz: 2\n",
    ["etc/group_vars/web/1.yml"] = "z: 3\ny: 3\n", ["etc/group_vars/web/2.json"] = '{"y": 4}',
    ["etc/host_vars/a"] = "v: 5\n",
  }
  local holder = open(tree, "etc/hosts")
  local found = {}
  for _, name in ipairs { "v", "w", "y", "z" } do found[name] = var(holder, "a", name) end
  t.eq(found, { v = 5, w = 2, y = 4, z = 3 })
end)

t.test("a change of any file or directory is noticed, and nothing else is read again", function()
  local tree = fake_tree { ["d/hosts"] = "[web]\na\n", ["d/group_vars/web.yml"] = "x: 1\n" }
  local holder = open(tree, "d/hosts")
  t.eq({ holder:refresh(), holder.generation }, { false, 1 })
  tree.write("d/group_vars/web.yml", "x: 2\n")
  t.eq({ holder:refresh(), var(holder, "a", "x") }, { true, 2 })
  tree.write("d/host_vars/a.yml", "x: 3\n")
  t.eq({ holder:refresh(), var(holder, "a", "x") }, { true, 3 })
  tree.files["d/host_vars/a.yml"] = nil
  t.eq({ holder:refresh(), var(holder, "a", "x") }, { true, 2 })
  t.eq({ holder:refresh(), holder.generation }, { false, 4 })
end)

t.test("a broken file of variables leaves the last good in force and is named with its line",
  function()
    local tree = fake_tree { ["d/hosts"] = "a\n", ["d/group_vars/all.yml"] = "x: 1\n" }
    local holder = open(tree, "d/hosts")
    for text, want in pairs {
      ["x: 1\ny: [\n"] = "d/group_vars/all.yml:", ["- x\n"] = "all.yml:1: a file of variables is a",
      ["a: 1\nansible_port: ssh\n"] = "all.yml:2: ansible_port", ["x: \0\n"] = "all.yml:1: a NUL",
    } do
      tree.write("d/group_vars/all.yml", text)
      local _, err = holder:refresh()
      t.has(err and err.message, want)
      t.eq(var(holder, "a", "x"), 1)
      _, err = holder:refresh()
      t.has(err and err.message, want)
    end
  end)

t.test("what only Ansible can read costs only the hosts that need it", function()
  local tree = fake_tree {
    ["d/hosts"] = "[web]\na\nb\n[other]\nc\n",
    ["d/group_vars/web.yml"] = "ansible_user: '{{ someone }}'\nmotd: '{{ x }}'\n",
    ["d/group_vars/all/vault.yml"] = "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
    ["d/host_vars/b.yml"] = "ansible_user: me\nsecret: " .. VAULT,
    ["d/host_vars/c.yml"] = "ansible_host: " .. VAULT,
  }
  local holder, err = open(tree, "d/hosts")
  t.eq(err, nil)
  local inv = holder.inventory
  t.has(inv:host("a").problem, "d/group_vars/web.yml:1: ansible_user is a template")
  t.eq({ inv:host("b").problem, inv:host("b").user }, { nil, "me" })
  t.eq(var(holder, "b", "secret"), nil)
  t.eq(var(holder, "b", "motd"), "{{ x }}")
  t.has(inv:host("c").problem, "d/host_vars/c.yml:1: ansible_host is encrypted by")
  local warnings = table.concat(inv.warnings, "\n")
  t.has(warnings, "d/group_vars/all/vault.yml:1: the file is encrypted")
  t.has(warnings, "d/host_vars/b.yml:2: 'secret' is encrypted")
end)

t.test("an emptied file of a directory is not taken for one without hosts", function()
  local tree = fake_tree { ["d/one"] = "a\n", ["d/two"] = "b\n", ["d/nothing"] = "" }
  local holder = open(tree, "d")
  tree.write("d/two", "")
  local _, err = holder:refresh()
  t.has(err and err.message, "d/two: is empty")
  t.eq(#holder.inventory.hosts, 2)
  tree.files["d/two"] = nil
  t.eq({ holder:refresh(), #holder.inventory.hosts }, { true, 1 })
end)

t.test("a link that leads back ends", function()
  local tree = fake_tree { ["d/a/hosts"] = "a\n" }
  local stat, list = tree.stat, tree.list
  local function real(path) return (path:gsub("/loop", "")) end
  local holder, err = inventory_holder.open("d", {
    stat = function(path) return stat(real(path)) end,
    read = function(path) return tree.read(real(path)) end,
    list = function(path)
      local names = list(real(path))
      if real(path) == "d" then names[#names + 1] = "loop" end
      return names
    end,
  })
  t.has(err and err.message, "nested more than 16 deep")
  t.eq(#holder.inventory.hosts, 0)
end)

t.test("of very many files only some are looked at in one turn", function()
  local files, lines = {}, {}
  for i = 1, 3000 do
    lines[i] = "h" .. i
    files["d/host_vars/h" .. i] = "x: " .. i .. "\n"
  end
  files["d/hosts"] = table.concat(lines, "\n")
  local tree = fake_tree(files)
  -- Listing the fake tree is slow; a look does not list.
  local holder = open(tree, "d/hosts")
  t.eq(var(holder, "h3000", "x"), 3000)
  local missing = tree.stat
  holder.options.stat = function(path)
    tree.asked = tree.asked + 1
    local text = tree.files[path]
    if not text then return missing(path) end
    return { type = "file", size = #text, mtime = tree.times[path] or 0, inode = 1 }
  end
  holder.watch.ask = holder.options.stat
  tree.asked = 0
  t.eq(holder:refresh(), false)
  t.eq(tree.asked < 1100, true)
  tree.write("d/host_vars/h2500", "x: 0\n")
  local turns = 0
  repeat turns = turns + 1 until holder:refresh() or turns > 3
  t.eq(turns <= 3, true)
  t.eq(var(holder, "h2500", "x"), 0)
end)

t.done()
