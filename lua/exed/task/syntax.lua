-- SPDX-License-Identifier: MIT
-- Looks around in a list of tokens (exed.task.tokens): which call this is, on what, and whether
-- anything is done with its answer. It knows no grammar beyond that; where it is in doubt, it says
-- that the answer is used.

local tokens = require "exed.task.tokens"

local syntax = {}
syntax.__index = syntax

local BLOCKS <const> = {
  ["function"] = true, ["do"] = true, ["then"] = true, ["else"] = true, ["repeat"] = true,
}

-- For each token the place of the block and of the function that it is in.
local function add_blocks(list)
  local blocks, functions = {}, {}
  for i, token in ipairs(list) do
    if token.open and BLOCKS[list[token.open].text] then
      table.remove(blocks)
      if list[token.open].text == "function" then table.remove(functions) end
    end
    token.block, token.fn = blocks[#blocks], functions[#functions]
    if token.close and BLOCKS[token.text] then
      blocks[#blocks + 1] = i
      if token.text == "function" then functions[#functions + 1] = i end
    end
  end
end

function syntax.new(text)
  local list = tokens.scan(text)
  add_blocks(list)
  return setmetatable({ list = list }, syntax)
end

-- Whether the token is this word, and no string of that text.
function syntax:is(i, word)
  local token = self.list[i]
  return token ~= nil and token.kind ~= "string" and token.text == word
end

-- First and last token of the arguments of the call whose name is at i; nil when it is no call.
function syntax:args(i)
  local token = self.list[i + 1]
  if not token then return nil end
  if token.kind == "string" then return i + 1, i + 1 end
  if token.kind == "op" and (token.text == "(" or token.text == "{") and token.close then
    return i + 1, token.close
  end
end

local function ends_value(token)
  return token ~= nil and (token.kind == "name" or token.kind == "string"
    or token.kind == "op" and (token.text == ")" or token.text == "]" or token.text == "}"))
end

-- The first token of the expression whose last name is at i: of `a.b(c):d` the place of a.
function syntax:start(i)
  local list = self.list
  while self:is(i - 1, ".") or self:is(i - 1, ":") do
    i = i - 2
    while list[i] and list[i].kind ~= "name" do
      if list[i].kind == "op" then i = list[i].open or i end
      if not ends_value(list[i - 1]) then return i end
      i = i - 1
    end
  end
  return i
end

-- The text of tokens, for comparing receivers.
function syntax:text(first, last)
  local words = {}
  for i = first, last do words[#words + 1] = self.list[i].text end
  return table.concat(words)
end

-- What the method at i is called on: "host", "job.node".
function syntax:receiver(i) return self:text(self:start(i), i - 2) end

-- Whether `field = value` stands among these tokens, and not in a function that begins there.
function syntax:has_field(first, last, field, value)
  local fn = self.list[first].fn
  for i = first, last - 2 do
    local token = self.list[i]
    if token.kind == "name" and token.text == field and token.fn == fn and self:is(i + 1, "=")
      and self:is(i + 2, value) then
      return true
    end
  end
  return false
end

-- ---- is the answer used -------------------------------------------------------------------------

local VALUE_AFTER <const> = {
  ["return"] = true, ["not"] = true, ["and"] = true, ["or"] = true, ["if"] = true,
  ["elseif"] = true, ["while"] = true, ["until"] = true, ["in"] = true,
}
local ENDS_STATEMENT <const> = { [")"] = true, ["]"] = true, ["}"] = true, [";"] = true,
  ["::"] = true }

-- Whether what begins at `start` is a statement, and no part of an expression.
function syntax:is_statement(start)
  local before = self.list[start - 1]
  if not before then return true end
  if before.kind == "op" then return ENDS_STATEMENT[before.text] or false end
  return not (before.kind == "keyword" and VALUE_AFTER[before.text])
end

local function is_read(self, name, first, last, except)
  for i = first, last do
    local token = self.list[i]
    if i ~= except and token.kind == "name" and token.text == name
      and not self:is(i - 1, ".") and not self:is(i - 1, ":")
      and not (self:is(i + 1, "=") and self:is_statement(i)) then
      return true
    end
  end
  return false
end

-- Whether any of the names before the `=` at `equals` is looked at later.
local function is_assigned_and_read(self, equals, last)
  local i = equals - 1
  local names = {}
  while self.list[i] and self.list[i].kind == "name" do
    names[#names + 1] = i
    if not self:is(i - 1, ",") then break end
    i = i - 2
  end
  if #names == 0 then return true end
  local first = names[#names]
  if self:is(first - 1, ".") or self:is(first - 1, "]") then return true end
  local is_local = self:is(first - 1, "local")
  local block = self.list[first].block
  local stop = is_local and block and self.list[block].close or #self.list
  for _, at in ipairs(names) do
    local name = self.list[at].text
    local from = is_local and last + 1 or 1
    if name ~= "_" and is_read(self, name, from, stop, at) then return true end
  end
  return false
end

-- Whether anything looks at the answer of a call that goes from `start` to `last`.
function syntax:is_used(start, last)
  local after = self.list[last + 1]
  if after and after.kind == "op" and (after.text == "." or after.text == ":"
    or after.text == "[") then
    return true
  end
  if self:is_statement(start) then return false end
  if self:is(start - 1, "=") then return is_assigned_and_read(self, start - 1, last) end
  return true
end

return syntax
