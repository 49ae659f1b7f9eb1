-- SPDX-License-Identifier: MIT
-- Tests of exed.cli.ranges.

local t = require "support"
local names = require "exed.inventory.names"
local ranges = require "exed.cli.ranges"

local function folds(text, want)
  local list = {}
  for name in text:gmatch "%S+" do list[#list + 1] = name end
  t.eq(ranges.fold(list), want, text)
end

t.test("numbers that follow each other become ranges", function()
  folds("web01 web02 web03", "web[01-03]")
  folds("web03 web01 web02 web15", "web[01-03,15]")
  folds("web1 web3 web5", "web[1,3,5]")
  folds("web1", "web1")
  folds("1 2 3", "[1-3]")
end)

t.test("zeros in front are kept", function()
  folds("web8 web9 web10 web11", "web[8-11]")
  folds("web08 web09 web10", "web[08-10]")
  folds("web09 web010", "web[09,010]")
  folds("web9 web10 web010", "web[9-10,010]")
  folds("web099 web100", "web[099-100]")
  folds("web99 web100", "web[99-100]")
  folds("web1 web01 web001", "web[1,01,001]")
end)

t.test("names of other forms stay apart, in natural order", function()
  folds("web2 db1 web1 gw", "db1,gw,web[1-2]")
  folds("web10 web9 web-a", "web-a,web[9-10]")
  folds("localhost", "localhost")
end)

t.test("the bracket is where it gathers most", function()
  folds("web01.dc1 web02.dc1 web03.dc1", "web[01-03].dc1")
  folds("web01.dc1 web02.dc1 web01.dc2 web02.dc2 web03.dc2", "web[01-02].dc1,web[01-03].dc2")
  folds("10.0.0.1 10.0.0.2 10.0.0.9", "10.0.0.[1-2,9]")
  folds("r1n1 r2n1 r3n1", "r[1-3]n1")
end)

t.test("numbers too long to count are text", function()
  folds("h12345678901234567890 h12345678901234567891",
    "h12345678901234567890,h12345678901234567891")
  folds("h123456789012345 h123456789012346", "h[123456789012345-123456789012346]")
end)

t.test("every name comes back from what was folded", function()
  math.randomseed(7)
  for _ = 1, 300 do
    local list, has = {}, {}
    for _ = 1, math.random(1, 60) do
      local width = math.random(0, 3)
      local name = ("%s%0" .. math.max(1, width) .. "d%s"):format(
        ({ "a", "web", "x-" })[math.random(3)], math.random(0, 120),
        ({ "", ".dc1", "b" })[math.random(3)])
      if not has[name] then
        has[name] = true
        list[#list + 1] = name
      end
    end
    local text = ranges.fold(list)
    local count = 0
    -- Commas outside of brackets part the names; a list of ranges is several ranges.
    for part in (text:gsub("%b[]", function(inside) return (inside:gsub(",", ";")) end))
      :gmatch "[^,]+" do
      local head, inside, tail = part:match "^(.-)%[(.*)%](.*)$"
      for range in (inside or ""):gmatch "[^;]+" do
        for _, name in ipairs(names.expand(("%s[%s]%s"):format(head,
          range:find "-" and range:gsub("-", ":") or range .. ":" .. range, tail), 1000)) do
          assert(has[name], ("%s is not among them: %s"):format(name, text))
          count = count + 1
        end
      end
      if not inside then
        assert(has[part], part)
        count = count + 1
      end
    end
    t.eq(count, #list, text)
  end
end)

t.done()
