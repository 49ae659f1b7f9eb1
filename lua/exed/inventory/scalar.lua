-- SPDX-License-Identifier: MIT
-- The value of a plain YAML scalar by YAML 1.1, as Ansible has it: `yes` is true, 0755 is 493,
-- 1:30 is 90. Dates stay text.

local value = require "exed.inventory.value"

local WORDS = {}
for _, word in ipairs { "null", "Null", "NULL", "~", "" } do WORDS[word] = "null" end
for _, word in ipairs { "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON" } do
  WORDS[word] = true
end
for _, word in ipairs { "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF" } do
  WORDS[word] = false
end

local SPECIAL = {
  [".inf"] = math.huge, [".Inf"] = math.huge, [".INF"] = math.huge,
  [".nan"] = 0 / 0, [".NaN"] = 0 / 0, [".NAN"] = 0 / 0,
}

-- An integer of digits in a base; nil when it does not fit in 64 bits.
local function whole(digits, base)
  local number = 0
  for digit in digits:gmatch "%x" do
    local unit = tonumber(digit, 16)
    if number > (math.maxinteger - unit) // base then return nil end
    number = number * base + unit
  end
  return number
end

-- Sums parts of base 60: 1:30 is 90.
local function sixties(text)
  local total = 0
  for part in text:gmatch "[^:]+" do
    local unit = tonumber((part:gsub("_", "")))
    if not unit then return nil end
    total = total * 60 + unit
  end
  return total
end

local function integer(body)
  if body:find "^0b[01_]+$" then return whole(body:sub(3), 2) end
  if body:find "^0x[%x_]+$" then return whole(body:sub(3), 16) end
  if body == "0" then return 0 end
  if body:find "^0[0-7_]+$" then return whole(body:sub(2), 8) end
  if body:find "^[1-9][%d_]*$" then return whole(body, 10) end
  if body:find "^[1-9][%d_]*:[%d:]+$" and not body:find "::" and not body:find ":$"
    and not body:find ":[6-9]%d" and not body:find ":%d%d%d" then
    return sixties(body)
  end
  return nil
end

local function float(body, sign)
  local digits, power = body:match "^(%d[%d_]*%.[%d_]*)([eE]?.*)$"
  if not digits and sign == "" then digits, power = body:match "^(%.%d[%d_]*)([eE]?.*)$" end
  if digits and (power == "" or power:find "^[eE][-+]%d+$") then
    return tonumber((digits:gsub("_", "")) .. power)
  end
  if body:find "^%d[%d_]*:[%d:]+%.[%d_]*$" and not body:find "::"
    and not body:find ":[6-9]%d" and not body:find ":%d%d%d" then
    return sixties(body)
  end
  return nil
end

-- The value of a plain scalar's text.
local function scalar(text)
  local word = WORDS[text]
  if word == "null" then return value.null end
  if word ~= nil then return word end
  if not text:find "^[-+.%d]" then return text end
  local sign, body = text:match "^([-+]?)(.*)$"
  local number = SPECIAL[body] or integer(body) or float(body, sign)
  if number == nil or (number ~= number and sign ~= "") then return text end
  return sign == "-" and -number or number
end

return scalar
