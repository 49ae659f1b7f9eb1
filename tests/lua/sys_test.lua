-- SPDX-License-Identifier: MIT
-- Tests of exed.sys.

local t = require "support"
local sys = require "exed.sys"

t.test("a uuid is random, version 4", function()
  local seen = {}
  for _ = 1, 200 do
    local id = sys.uuid()
    t.eq(#id, 36)
    assert(id:match "^%x+%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x+$", id)
    assert(not seen[id])
    seen[id] = true
  end
end)

t.test("stat tells a file from a directory", function()
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write "four"
  f:close()
  local st = sys.stat(path)
  t.eq(st.type, "file")
  t.eq(st.size, 4)
  assert(st.mtime > 1e18 and st.inode > 0)
  t.eq(math.type(st.mtime), "integer")
  t.eq(sys.stat("/").type, "directory")
  t.eq(sys.stat("/dev/null").type, "other")
  os.remove(path)
end)

t.test("what is not there is nil and an error of code not_found", function()
  for _, call in ipairs { "stat", "list" } do
    local got, err = sys[call] "/nowhere/at/all"
    t.eq(got, nil)
    t.eq(err.code, "not_found")
    t.eq(err.operation, "sys." .. call)
    t.has(err.message, "/nowhere/at/all")
  end
end)

t.test("list is sorted and has no dots", function()
  local names = assert(sys.list(sys.share() .. "/lua"))
  t.has(table.concat(names, ","), "exed")
  for i, name in ipairs(names) do
    assert(name ~= "." and name ~= "..")
    assert(i == 1 or names[i - 1] < name)
  end
end)

t.test("the rest is text and numbers", function()
  assert(#sys.hostname() > 0)
  assert(sys.pid() > 1)
  assert(sys.version():match "^%d")
end)

t.done()
