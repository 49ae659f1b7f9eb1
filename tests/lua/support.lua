-- SPDX-License-Identifier: MIT
-- A small test library for tests/lua/*_test.lua:
--
--   local t = require "support"
--   t.test("what must hold", function() t.eq(1 + 1, 2) end)
--   t.done()
--
-- A test that leaves a fiber, a wait, a child or a descriptor fails. done prints `N passed, N
-- failed` as the last line and ends with a failure when a test failed, or when there was none.

local left = require "left"

local support = { passed = 0, failed = 0 }

-- A value as text that a person can compare.
local function show(value, depth)
  depth = depth or 0
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" or depth > 6 then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and type(a) ~= "table" and type(a) ~= "boolean" then return a < b end
    return type(a) < type(b)
  end)
  for _, key in ipairs(keys) do
    local name = math.type(key) == "integer" and "" or tostring(key) .. " = "
    parts[#parts + 1] = name .. show(value[key], depth + 1)
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end
support.show = show

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b and math.type(a) == math.type(b)
  end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Fails unless both are equal: tables by what is in them, 1 and 1.0 are not equal.
function support.eq(got, want, what)
  if same(got, want) then return end
  error(("%sgot %s, want %s"):format(what and what .. ": " or "", show(got), show(want)), 2)
end

-- Fails unless the text has the part (plain text, no pattern).
function support.has(text, part, what)
  if type(text) == "string" and text:find(part, 1, true) then return end
  error(("%s%s has not %s"):format(what and what .. ": " or "", show(text), show(part)), 2)
end

-- Fails unless fn raises an error (text, or a table with `message`) that has the part.
function support.raises(fn, part, what)
  local ok, err = pcall(fn)
  if ok then error((what and what .. ": " or "") .. "nothing was raised", 2) end
  support.has(type(err) == "table" and err.message or tostring(err), part, what)
  return err
end

-- A function of the standard library, or nil where the environment does not have it.
local function standard(library, name)
  local ok, found = pcall(function() return _ENV[library][name] end)
  return ok and found or nil
end

local function describe_error(err)
  local text = type(err) == "table" and show(err) or tostring(err)
  local traceback = standard("debug", "traceback")
  return traceback and traceback(text, 2) or text
end

-- Runs one test; a raised error is its failure, and so is what it leaves.
function support.test(name, fn)
  local before = left.look()
  local ok, trace = xpcall(fn, describe_error)
  local list = ok and left.since(before) or {}
  if #list > 0 then ok, trace = false, "it left " .. table.concat(list, "\nit left ") end
  if ok then
    support.passed = support.passed + 1
  else
    support.failed = support.failed + 1
    print(("FAILED %s\n  %s"):format(name, (trace:gsub("\n", "\n  "))))
  end
end

-- Ends the test file.
function support.done()
  print(("%d passed, %d failed"):format(support.passed, support.failed))
  if support.failed == 0 and support.passed > 0 then return end
  error { message = "tests failed" } -- a table: no trace of this is shown
end

return support
