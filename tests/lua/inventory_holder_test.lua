-- SPDX-License-Identifier: MIT
-- A loaded inventory follows its file, and stays in force when the file breaks.

local inventory_holder = require "exed.inventory.holder"
local t = require "support"

-- A file in memory with the two functions that a holder uses.
local function fake_file(text)
  local file = { text = text, version = 1, reads = 0 }
  function file.stat()
    if not file.text then return nil, { message = "No such file or directory" } end
    return { mtime = file.version, size = #file.text, inode = 5, type = file.type or "file" }
  end
  function file.read(path)
    file.reads = file.reads + 1
    if file.on_read then file.on_read() end
    if not file.text then return nil, { code = "inventory", message = path .. ": is gone" } end
    return file.text
  end
  function file.write(new)
    file.text, file.version = new, file.version + 1
  end
  return file
end

local function open(file)
  return inventory_holder.open("hosts", { stat = file.stat, read = file.read })
end

t.test("a file is read at open, and again only when it changed", function()
  local file = fake_file "a\nb\n"
  local holder, err = open(file)
  t.eq(err, nil)
  t.eq({ #holder.inventory.hosts, holder.generation, file.reads }, { 2, 1, 1 })
  t.eq(holder:refresh(), false)
  t.eq(file.reads, 1)
  file.write "a\nb\nc\n"
  t.eq(holder:refresh(), true)
  t.eq({ #holder.inventory.hosts, holder.generation, file.reads }, { 3, 2, 2 })
end)

t.test("a broken file leaves the last good one in force and is told until it is right", function()
  local file = fake_file "a\n"
  local holder = open(file)
  local before = holder.inventory
  file.write "a x\n"
  local changed, err = holder:refresh()
  t.eq(changed, false)
  t.has(err.message, "hosts:1: expected key=value")
  t.eq(rawequal(holder.inventory, before), true)
  changed, err = holder:refresh()
  t.eq({ changed, err.code, file.reads }, { false, "inventory", 2 })
  file.write "a\nb\n"
  t.eq(holder:refresh(), true)
  t.eq({ holder.error, #holder.inventory.hosts }, { nil, 2 })
end)

t.test("a file that could not be read for want of memory, or by an error, is read again", function()
  local file = fake_file "a\n"
  local holder = open(file)
  file.write "a\nb\n"
  function file.on_read() error("not enough memory", 0) end
  local changed, err = holder:refresh()
  t.eq({ changed, err.code }, { false, "memory" })
  t.eq(holder:refresh(), false)
  t.eq(file.reads, 3)
  file.on_read = nil
  t.eq(holder:refresh(), true)
  t.eq({ #holder.inventory.hosts, holder.error, file.reads }, { 2, nil, 4 })
  t.eq(holder:refresh(), false)
  t.eq(file.reads, 4)
end)

t.test("a file that goes away, or is no file, changes nothing either", function()
  local file = fake_file "a\n"
  local holder = open(file)
  local text = file.text
  file.text = nil
  local _, err = holder:refresh()
  t.has(err.message, "hosts: No such file or directory")
  file.text, file.type = text, "fifo"
  _, err = holder:refresh()
  t.has(err.message, "hosts: is neither a file nor a directory")
  t.eq({ #holder.inventory.hosts, file.reads }, { 1, 1 })
  file.type = nil
  t.eq(holder:refresh(), true)
  t.eq(holder.error, nil)
end)

t.test("an emptied file is not taken for an inventory without hosts", function()
  local file = fake_file "a\n"
  local holder = open(file)
  file.write " \n"
  local _, err = holder:refresh()
  t.has(err.message, "is empty")
  t.eq(#holder.inventory.hosts, 1)
  file.write "# none\n"
  t.eq(holder:refresh(), true)
  t.eq(#holder.inventory.hosts, 0)
end)

t.test("a file that is broken at the start gives an empty inventory and the error", function()
  local file = fake_file "[web\n"
  local holder, err = open(file)
  t.has(err.message, "hosts:1: ")
  t.eq({ #holder.inventory.hosts, holder.generation, holder.error.code }, { 0, 0, "inventory" })
  file.write "a\n"
  t.eq(holder:refresh(), true)
  t.eq(holder.generation, 1)
end)

t.test("a file that changes while it is read is read again", function()
  local file = fake_file "a\n"
  local holder = open(file)
  file.write "b\n"
  file.on_read = function()
    file.on_read = nil
    file.version = file.version + 1
  end
  t.eq(holder:refresh(), true)
  t.eq(holder:refresh(), true)
  t.eq(holder:refresh(), false)
end)

t.test("a second reader returns at once while the first one pauses", function()
  local lines = {}
  for i = 1, 2000 do lines[i] = "h" .. i end
  local file = fake_file(table.concat(lines, "\n"))
  local holder = inventory_holder.open("hosts", { stat = file.stat, read = file.read })
  holder.options.pause = function()
    if coroutine.isyieldable() then coroutine.yield() end
  end
  file.write(file.text .. "\nlast")
  local reader = coroutine.create(function() return holder:refresh() end)
  coroutine.resume(reader)
  t.eq(coroutine.status(reader), "suspended")
  t.eq(holder:refresh(), false)
  t.eq(holder.generation, 1)
  while coroutine.status(reader) == "suspended" do coroutine.resume(reader) end
  t.eq({ #holder.inventory.hosts, holder.generation }, { 2001, 2 })
end)

t.done()
