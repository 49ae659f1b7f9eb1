-- SPDX-License-Identifier: MIT
-- exed.text: escapes, base64 and digests are those of the standards.

local json = require "exed.json"
local proc = require "exed.proc"
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

t.test("unbase64 gives back what base64 made, and refuses what is none", function()
  for n = 0, 50 do
    local bytes = {}
    for i = 1, n do bytes[i] = string.char((i * 37 + n) % 256) end
    local all = table.concat(bytes)
    t.eq(text.unbase64(text.base64(all)), all)
  end
  for _, wrong in ipairs { "Zg", "Z===x", "!!!!", "Zm9" } do
    t.eq(text.unbase64(wrong), nil, wrong)
  end
end)

t.test("escape leaves nothing that a terminal would obey", function()
  t.eq(text.escape "a\27[2Jb\r\n\u{e9}\u{9b}", "a\\x1b[2Jb\n\u{e9}\\u{9b}")
end)

t.test("quote gives sh the very words", function()
  t.eq(text.quote { "ls", "-l", "a b", "" }, "ls -l 'a b' ''")
  t.eq(text.quote {}, "")
  local words = { "printf", "%s|", "it's", "$HOME `x` \\", "a\nb", "*", "\u{e9}\xff", "if" }
  local result = proc.run { command = text.quote(words) }
  t.eq(result.stdout, table.concat(words, "|", 3) .. "|")
  t.raises(function() text.quote { "a\0b" } end, "word 1: text without NUL")
  t.raises(function() text.quote { "a", 5 } end, "word 2")
end)

t.test("sha256 has the test vector of FIPS 180-2", function()
  t.eq(text.sha256 "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
end)

t.done()
