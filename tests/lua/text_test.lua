-- SPDX-License-Identifier: MIT
-- exed.text: escapes, base64 and digests are those of the standards.

local json = require "exed.json"
local t = require "support"
local text = require "exed.text"

t.test("json gives the text back through a JSON reader, and says what was no UTF-8", function()
  local all = 'a"b\\c\n\0\27 snow \u{2603}'
  local inside, whole = text.json(all)
  t.eq(json.decode('"' .. inside .. '"'), all)
  t.eq(whole, true)
  inside, whole = text.json "a\xffb"
  t.eq({ inside, whole }, { "a\u{fffd}b", false })
  t.eq({ text.json "" }, { "", true })
end)

t.test("base64 has the test vectors of RFC 4648", function()
  local vectors = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foobar = "Zm9vYmFy" }
  for plain, coded in pairs(vectors) do t.eq(text.base64(plain), coded) end
end)

t.test("sha256 has the test vector of FIPS 180-2", function()
  t.eq(text.sha256 "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
end)

t.done()
