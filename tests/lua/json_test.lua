-- SPDX-License-Identifier: MIT
-- Tests of exed.json and of cjson, which is the same under another name.

local json = require "exed.json"
local cjson = require "cjson"
local t = require "support"
local test = t.test

test("an empty array stays one, and an empty object too", function()
  assert(json.encode(json.decode '{"a":[],"b":{}}') == '{"a":[],"b":{}}')
  assert(json.encode {} == "{}")
  assert(json.encode(json.array {}) == "[]")
  assert(json.is_array(json.decode "[]"))
  assert(not json.is_array(json.decode "{}"))
  assert(not json.is_array(1))
end)

test("a decoded array is a plain list otherwise", function()
  local list = json.decode "[3,4]"
  list[#list + 1] = 5
  assert(table.concat(list, ",") == "3,4,5")
  assert(json.encode(list) == "[3,4,5]")
  for i = #list, 1, -1 do list[i] = nil end
  assert(json.encode(list) == "[]")
end)

test("null is one value", function()
  local value = json.decode '{"a":null,"b":[null]}'
  assert(value.a == json.null and value.b[1] == json.null)
  assert(tostring(json.null) == "null")
  assert(json.encode { json.null, json.null } == "[null,null]")
end)

test("integers are exact and floats stay floats", function()
  assert(math.type(json.decode "1") == "integer")
  assert(math.type(json.decode "1.0") == "float")
  assert(json.decode "9223372036854775807" == math.maxinteger)
  for _, x in ipairs { 0.1, 1 / 3, 1e21, 123456789.125, 2 ^ -1074, 1.7976931348623157e308 } do
    local back = json.decode(json.encode(x))
    assert(back == x and math.type(back) == "float", x)
  end
end)

test("names are written in order", function()
  assert(json.encode { z = 1, a = 2, m = { b = 1, a = 2 } } == '{"a":2,"m":{"a":2,"b":1},"z":1}')
end)

test("decode gives nil and an error table", function()
  local value, err = json.decode '{"a":1,"a":2}'
  assert(value == nil)
  assert(err.code == "invalid")
  assert(err.message == "a name twice in one object at line 1 column 10 (byte 10), in 'a'",
    err.message)
  assert(err.operation == "json.decode")
end)

test("more values than are wanted are refused", function()
  assert(#json.decode("[1,2,3]", 4) == 3)
  local value, err = json.decode("[1,2,3]", 3)
  assert(value == nil and err.message:find "^more than 3 values at line 1 column 5", err.message)
  assert(json.decode('",,,,[[[["', 1) == ",,,,[[[[")
  t.raises(function() json.decode("1", -1) end, "number of values")
end)

test("misuse raises", function()
  t.raises(function() json.decode() end, "bad argument")
  t.raises(function() json.decode({}) end, "bad argument")
  t.raises(function() json.encode() end, "bad argument")
  t.raises(function() json.encode({ a = print }) end, "a function has no form, at .a")
  t.raises(function() json.array(setmetatable({}, {})) end, "metatable already")
  local loop = {}
  loop[1] = loop
  t.raises(function() json.encode(loop) end, "nested deeper")
end)

test("raw goes in as it is", function()
  local record = json.raw '{"status": 5}'
  assert(json.encode { host = record } == '{"host":{"status": 5}}')
end)

test("bytes that are not UTF-8 become U+FFFD", function()
  assert(json.encode "a\xffb" == '"a\u{fffd}b"')
  assert(json.decode '"a\\u0000b"' == "a\0b")
end)

test("cjson is the same, and its decode raises", function()
  assert(cjson.null == json.null)
  assert(cjson.encode(cjson.decode '{"a":[]}') == '{"a":[]}')
  t.raises(function() cjson.decode("{") end, "it ends too early")
end)

t.done()
