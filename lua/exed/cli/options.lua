-- SPDX-License-Identifier: MIT
-- Command-line options, declared once: the parser, the errors and the help come from it.
--
--   local parser = options.compile {
--     usage = { "exed-run exec [OPTION...] PATTERN [--] COMMAND..." },
--     about = "text between usage and options",
--     { "window", "f", type = "integer", min = 1, value = "N", help = "hosts at once" },
--     { "json", help = "one JSON object per line" },          no type: a flag
--     "Of all verbs:",                                        a line between options in the help
--     after = "text after the options",
--     operands = 1,     the second word that is no option begins what is taken as it is: a command
--   }
--   local given = parser:parse(argv)    raises { code = "usage", message } when it is wrong
--   given.window, given.json (true or nil), given[1]...: the other words
--   parser.help: the text for --help
--
-- Types are those of exed.schema.types (integer, duration, choice with `of`, ...) and "size".
-- Fields besides: alias (another long name), set (name and value that a flag sets), json (how JSON
-- values look, for types that may be some), default, many = true (a list of all that were given),
-- shown (the default as help shows it). `--` ends the options; `-fN`, `-f N`, `--window=N` and
-- `--window N` are the same; flags of one letter may stand together.

local types = require "exed.schema.types"
local words = require "exed.words"

local options = {}

local parser = {}
parser.__index = parser

local WIDTH <const> = 78
local INDENT <const> = 26

local function refuse(text, ...)
  error({ code = "usage", message = text:format(...) }, 0)
end
options.refuse = refuse

-- ---- values -------------------------------------------------------------------------------------

local SIZES <const> = { [""] = 1, k = 1 << 10, m = 1 << 20, g = 1 << 30 }

local function read_size(text)
  local digits, unit = text:lower():match "^(%d+)([kmg]?)$"
  if not digits or #digits > 12 then return nil, "a size such as 65536, 64k, 8m or 1g" end
  return tonumber(digits) * SIZES[unit]
end

local function read(field, name, text)
  local found, want, hint
  if field.type == "size" then
    found, want = read_size(text)
  else
    found, want, hint = types.read(field, text, field.json or {})
  end
  if found == nil then
    refuse("option %s takes %s, not %s%s", name, want, words.show(text), hint or "")
  end
  return found
end

local function keep(given, field, value)
  if not field.many then
    given[field.name] = value
    return
  end
  given[field.name] = given[field.name] or {}
  table.insert(given[field.name], value)
end

-- ---- the words ----------------------------------------------------------------------------------

-- Reads --name, --name=value or --name value; returns the place of the last word it took.
local function read_long(self, given, argv, at)
  local name, text = argv[at]:match "^%-%-([^=]+)=?(.*)$"
  local field = name and self.by_name[name]
  if not field then
    refuse("there is no option %s%s", words.show(argv[at]:match "^[^=]*"),
      words.hint(name or "", self.names))
  end
  local has_value = argv[at]:find("=", 1, true) ~= nil
  if not field.type then
    if has_value then refuse("option --%s takes no value", name) end
    if field.set then given[field.set[1]] = field.set[2] else given[field.name] = true end
    return at
  end
  if not has_value then
    at = at + 1
    text = argv[at]
    if not text then refuse("option --%s wants a value: %s", name, field.value) end
  end
  keep(given, field, read(field, "--" .. name, text))
  return at
end

-- Reads -x, -xy, -f value or -fvalue.
local function read_short(self, given, argv, at)
  local word = argv[at]
  for i = 2, #word do
    local letter = word:sub(i, i)
    local field = self.by_letter[letter]
    if not field then
      local shown = i == 2 and word or "-" .. letter
      refuse("there is no option %s", words.show(shown))
    end
    if field.type then
      local text = word:sub(i + 1)
      if text == "" then
        at = at + 1
        text = argv[at]
      end
      if not text then refuse("option -%s wants a value: %s", letter, field.value) end
      keep(given, field, read(field, "-" .. letter, text))
      return at
    end
    given[field.name] = true
  end
  return at
end

function parser:parse(argv)
  local given, at = {}, 1
  for _, field in ipairs(self.fields) do given[field.name] = field.default end
  while at <= #argv do
    local word = argv[at]
    if word == "--" then
      table.move(argv, at + 1, #argv, #given + 1, given)
      return given
    elseif word:find "^%-%-" then
      at = read_long(self, given, argv, at)
    elseif word:find "^%-." then
      at = read_short(self, given, argv, at)
    elseif self.operands and #given >= self.operands then
      break
    else
      given[#given + 1] = word
    end
    at = at + 1
  end
  return table.move(argv, at, #argv, #given + 1, given)
end

-- ---- help ---------------------------------------------------------------------------------------

-- The words of a text in lines, each after `indent` blanks but for the first.
local function fold(text, indent)
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and #line + 1 + #word > WIDTH - indent then
      lines[#lines + 1] = line
      line = word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n" .. (" "):rep(indent))
end

local function option_line(field)
  local short = field.short and "-" .. field.short .. ", " or "    "
  local head = "  " .. short .. "--" .. field.name .. (field.type and " " .. field.value or "")
  local text = field.help
  local default = field.shown or field.type and field.default
  if default then text = text .. (" (%s)"):format(default) end
  local gap = #head + 2 > INDENT and "\n" .. (" "):rep(INDENT) or (" "):rep(INDENT - #head)
  return head .. gap .. fold(text, INDENT) .. "\n"
end

-- Paragraphs are folded; lines that begin with a blank stay as they are.
local function prose(text)
  local out = {}
  for block in (text .. "\n\n"):gmatch "(.-)\n\n+" do
    if block ~= "" then
      out[#out + 1] = block:find "^%s" and block or fold(block, 0)
    end
  end
  return table.concat(out, "\n\n") .. "\n"
end

local function help_of(decl, fields)
  local out = { "usage: " .. table.concat(decl.usage, "\n       ") .. "\n" }
  if decl.about then out[#out + 1] = "\n" .. prose(decl.about) end
  out[#out + 1] = "\n"
  for i, field in ipairs(fields) do
    local heading = type(field) == "string" and (i > 1 and "\n" or "") .. field .. "\n"
    out[#out + 1] = heading or option_line(field)
  end
  if decl.after then out[#out + 1] = "\n" .. prose(decl.after) end
  return table.concat(out)
end

-- ---- the declaration ----------------------------------------------------------------------------

local function add_field(self, one)
  local field = {}
  for key, value in pairs(one) do field[key] = value end
  field.name, field.short = one[1], one[2]
  field.value = field.value or field.type and field.type:upper()
  assert(not self.by_name[field.name] and field.help, field.name)
  assert(not field.short or not self.by_letter[field.short], field.short)
  self.fields[#self.fields + 1], self.names[#self.names + 1] = field, field.name
  self.by_name[field.name] = field
  if field.alias and not self.by_name[field.alias] then
    self.by_name[field.alias] = field
  end
  if field.short then self.by_letter[field.short] = field end
  return field
end

function options.compile(decl)
  local self = setmetatable({
    fields = {}, by_name = {}, by_letter = {}, names = {}, operands = decl.operands,
  }, parser)
  local shown = {}
  for _, one in ipairs(decl) do
    shown[#shown + 1] = type(one) == "string" and one or add_field(self, one)
  end
  shown[#shown + 1] = { name = "help", short = not self.by_letter.h and "h" or nil,
    help = "this text" }
  self.help = help_of(decl, shown)
  return self
end

return options
