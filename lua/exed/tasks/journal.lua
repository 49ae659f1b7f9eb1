-- SPDX-License-Identifier: MIT
-- A task's journal in the store: entries are durable when write returns, and what they say to
-- followers (announcements, outcomes) is written in the same call.

local json = require "exed.json"
local timer = require "exed.timer"

local journal = {}
journal.__index = journal

local PAGE <const> = 1000 -- entries read at once
local PAGE_BYTES <const> = 8 << 20
local ENTRIES <const> = 500 -- in one call
local ROWS <const> = 1500 -- rows for followers in one call

-- The journal of a slice that this node owns.
function journal.new(node, slice)
  return setmetatable({ node = node, slice = slice, seq = 0 }, journal)
end

-- An entry; an answer stays a text until somebody wants to know what is in it: most are only handed
-- on. Its keys are in order, so that it begins with its number.
local function read_entry(text)
  local n = text:match '^{"ans":(%d+)[,}]'
  if n then return { ans = math.tointeger(tonumber(n)), text = text } end
  return json.decode(text)
end

-- All entries, oldest first, or nil, err. An answer has its number, ans, and is whole as text.
function journal.read(node, jid)
  local entries, after = {}, 0
  while true do
    local page, err = node.store:insist("journal_read", jid, after, PAGE, PAGE_BYTES)
    if not page then return nil, err end
    for i = 2, #page do
      after = page[i][1]
      entries[#entries + 1] = read_entry(page[i][2])
    end
    if #page == 1 or after >= page[1] then return entries end
    timer.sleep(0)
  end
end

local NUMBERS <const> = { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 }

-- Rows for the results of what an entry says: index, kind, status, bytes of output, entry.
local function add_rows(rows, entry, task)
  local ask = entry.ask
  if not ask or not ask.note then return end
  local args = ask.args
  local kind, status, text = "announce", 0
  if ask.kind == "outcome" then
    kind, status = "outcome", NUMBERS[args.status]
    text = json.encode { status = status, name = task, return_data = args.text or "" }
  else
    text = json.encode { status = 0, name = task, return_data = args.text,
      everywhere = args.host == nil or nil }
  end
  for _, index in ipairs(args.hosts or { args.host or 0 }) do
    table.move({ index, kind, status, 0, text }, 1, 5, #rows + 1, rows)
  end
end

local function send(self, entries, rows)
  self.seq = self.seq + 1
  local args = { #entries }
  table.move(entries, 1, #entries, 2, args)
  table.move(rows, 1, #rows, #args + 1, args)
  local answer, err = self.node.store:insist("journal", self.slice.jid, self.slice.k,
    self.slice.epoch, self.seq, args)
  if not answer then return nil, err end
  return true, answer[2], answer[3]
end

-- Writes entries. Returns true and the bytes of the journal, or nil, err: this node does not own
-- the task any more.
function journal:write(entries, task)
  local texts, rows = {}, {}
  for i, entry in ipairs(entries) do
    texts[i] = json.encode(entry)
    if entry.ans then entry.text = texts[i] end -- the task gets the same
    add_rows(rows, entry, task)
  end
  -- Rows that do not fit into one call go before: after a crash between they are written again,
  -- and the last outcome counts.
  local at, ok, bytes = 1, true, nil
  while ok and #rows - at + 1 > 5 * ROWS do
    ok, bytes = send(self, {}, table.move(rows, at, at + 5 * ROWS - 1, 1, {}))
    at = at + 5 * ROWS
  end
  local rest = table.move(rows, at, #rows, 1, {})
  for first = 1, #texts, ENTRIES do
    if not ok then break end
    local some = table.move(texts, first, math.min(first + ENTRIES - 1, #texts), 1, {})
    ok, bytes = send(self, some, rest)
    rest = {}
  end
  if not ok then return nil, bytes end
  return true, bytes
end

-- Tells followers what became of these hosts (a list of indexes), past the journal: for a task that
-- cannot say so itself. Returns true, or nil, err.
function journal:tell(indexes, status, text, task)
  for first = 1, #indexes, ROWS do
    local rows = {}
    add_rows(rows, { ask = { note = true, kind = "outcome", args = {
      status = status, text = text,
      hosts = table.move(indexes, first, math.min(first + ROWS - 1, #indexes), 1, {}),
    } } }, task)
    local ok, err = send(self, {}, rows)
    if not ok then return nil, err end
  end
  return true
end

return journal
