-- SPDX-License-Identifier: MIT
-- What all followers of one job share: one subscription and one run over the job's results, the
-- last few MiB of which stay in memory. The feed reads on only when a follower has seen all there
-- is, so a job that nobody watches at its tip costs nothing.

local fiber = require "exed.fiber"
local json = require "exed.json"
local log = require "exed.log"
local shared = require "exed.follow.shared"
local timer = require "exed.timer"

local feed = {}
feed.__index = feed

local WINDOW <const> = 4 << 20 -- bytes of entries that are kept for followers close to the tip
local CACHE <const> = 1 << 20 -- bytes of output parts that are kept for the followers behind
local BEHIND <const> = 2 << 20 -- bytes of pages that are kept for followers who come back
local BLOCK <const> = 250 -- rows; such pages begin at its multiples, so that they can be shared
local ROW_BYTES <const> = 200 -- what a row costs beside its entry
local PAGE_ROWS <const> = 500
local PAGE_BYTES <const> = 256 << 10
local POLL <const> = 1 -- seconds; covers a lost wake-up
local GAP <const> = 0.01 -- seconds between two pages: a fast job is read in batches
local PATIENCE <const> = 60 -- seconds that followers wait for a store that is away
local CHUNK <const> = 500 -- names that are asked for at once

-- ---- asking the store ---------------------------------------------------------------------------

-- Calls the store, again while it is away, for at most PATIENCE.
function feed:ask(method, ...)
  local deadline, pause = timer.now() + PATIENCE, 0.05
  while true do
    local answer, err = self.store[method](self.store, self.jid, ...)
    if answer or not self.store.is_passing(err) or timer.now() > deadline then
      return answer, err
    end
    timer.sleep(pause)
    pause = math.min(pause * 2, 1)
  end
end

-- A chunk of the targets' names as JSON texts, or nil, err.
local function names_of(self, chunk)
  if self.names[chunk] then return self.names[chunk] end
  return self.cache:get("names " .. chunk, function()
    local found, err = self:ask("targets", chunk * CHUNK, (chunk + 1) * CHUNK)
    if not found then return nil, err end
    for i, name in ipairs(found) do found[i] = json.encode(name) end
    self.names[chunk] = found
    return found
  end)
end

-- The host's name as a JSON text, or nil, err.
function feed:key(index)
  local names, err = names_of(self, index // CHUNK)
  if not names then return nil, err end
  return names[index % CHUNK + 1] or '""'
end

-- `count` names from index `from` on as a list of JSON texts, or nil, err; one chunk at most.
function feed:keys(from, count)
  local names, err = names_of(self, from // CHUNK)
  if not names then return nil, err end
  local first = from % CHUNK + 1
  return table.move(names, first, math.min(first + count - 1, #names), 1, {})
end

-- `count` names from index `from` on, with commas between them; whole chunks only.
function feed:names_text(from, count)
  local texts = {}
  for chunk = from // CHUNK, (from + count - 1) // CHUNK do
    local names, err = names_of(self, chunk)
    if not names then return nil, err end
    texts[#texts + 1] = table.concat(names, ",")
  end
  return table.concat(texts, ",")
end

-- Gives rows of the store their names and their host's name. Returns true, or nil, err.
local function name_rows(self, rows)
  for i, row in ipairs(rows) do
    local key, err = self:key(row[2])
    if not key then return nil, err end
    rows[i] = {
      id = row[1], index = row[2], kind = row[3], effect = row[4], status = row[5],
      entry = row[6], key = key,
    }
  end
  return true
end

-- Rows of a task by target, as exed.store's grouped: { rows, next }, or nil, err.
function feed:grouped(from, to, after)
  local page, err = self:ask("grouped", from, to, after, PAGE_ROWS, PAGE_BYTES)
  if not page then return nil, err end
  local named
  named, err = name_rows(self, page.rows)
  return named and page, err
end

-- The rows after a position: { state, last, rows }, or nil, err.
function feed:page(after)
  local page, err = self:ask("page", after, PAGE_ROWS, PAGE_BYTES, not self.lines)
  if not page then return nil, err end
  local named
  named, err = name_rows(self, page.rows)
  if not named then return nil, err end
  page.bytes = 0
  for _, row in ipairs(page.rows) do page.bytes = page.bytes + #row.entry + ROW_BYTES end
  local first = page.rows[1]
  local upto = first and first.id - 1 or page.last
  if upto > after then
    return nil, {
      code = "trimmed",
      message = ("entries %d to %d are not kept any more"):format(after + 1, upto),
    }
  end
  return page
end

-- The rows behind the window after a position, or nil, err; read once for those who want the same.
function feed:behind(after)
  local from = after // BLOCK * BLOCK
  local page = self.pages:get(from, function() return self:page(from) end)
  local rows = page and page.rows or {}
  if #rows > 0 and rows[#rows].id > after then
    return after == from and rows or table.move(rows, after - from + 1, #rows, 1, {})
  end
  -- The page ended before it, by its bytes, or where it begins is not there any more.
  local err
  page, err = self.pages:get(after, function() return self:page(after) end)
  return page and page.rows, err
end

-- ---- output in parts ----------------------------------------------------------------------------

-- Where the parts of a record lie: { { id, stream }, ... }, or nil, err.
function feed:parts(row)
  return self.cache:get("parts " .. row.id, function()
    return self:ask("parts", row.effect, row.index)
  end)
end

-- The entry of that id, or nil, err.
function feed:entry(id)
  local row = self.rows[id]
  if row and row.entry ~= "" then return row.entry end
  return self.cache:get("entry " .. id, function() return self:ask("entry", id) end)
end

-- ---- the window ---------------------------------------------------------------------------------

-- The row after a position when it is in the window, else nil.
function feed:after(position) return self.rows[position + 1] end

-- Whether the row after a position was here, and is not any more.
function feed:is_past(position) return position + 1 < self.first end

local function add_rows(self, rows)
  for _, row in ipairs(rows) do
    self.rows[row.id], self.last = row, row.id
    self.bytes = self.bytes + #row.entry + ROW_BYTES
  end
  while self.bytes > WINDOW and self.first < self.last do
    self.bytes = self.bytes - #self.rows[self.first].entry - ROW_BYTES
    self.rows[self.first] = nil
    self.first = self.first + 1
  end
end

-- ---- reading on ---------------------------------------------------------------------------------

-- Waits until there may be rows after the last one.
local function wait_for_wake(self, sub)
  local deadline = timer.now() + POLL
  while true do
    local left = deadline - timer.now()
    if left <= 0 then return end
    local text, err
    if sub then
      text, err = sub:next(left)
    else
      timer.sleep(left)
    end
    if not text then
      if err and err.code ~= "timeout" then timer.sleep(POLL) end
      return
    end
    local id = tonumber(text)
    if not id or id > self.last then return end
  end
end

local function read_on(self, sub)
  local page, err = self:page(self.last)
  if not page then
    self.failed = err
  else
    add_rows(self, page.rows)
    self.ended = page.state == "ended" and self.last >= page.last
  end
  if self.failed or self.ended or #page.rows > 0 then self.fresh:notify() end
  if self.failed or self.ended or page.last > self.last then return end
  local paged = timer.now()
  wait_for_wake(self, sub)
  local pause = GAP - (timer.now() - paged)
  if pause > 0 then timer.sleep(pause) end
end

local function run(self)
  local sub <close>, err = self.conn:subscribe("exed:wake:" .. self.jid)
  if not sub then log.warn("follow", "jid=%s: %s", self.jid, err.message) end
  while not self.failed and not self.ended do
    if self.waiting > 0 then
      read_on(self, sub)
    else
      self.wanted:wait(POLL)
    end
  end
end

-- Waits for rows after the last one, or for the end, at most that many seconds; the caller looks
-- again.
function feed:wait(seconds)
  if not self.handle:running() and not self.ended then
    self.failed = self.failed or { code = "failed", message = "reading the job's results failed" }
    return
  end
  self.waiting = self.waiting + 1
  local _ <close> = setmetatable({}, {
    __close = function() self.waiting = self.waiting - 1 end,
  })
  self.wanted:notify()
  self.fresh:wait(math.max(0, math.min(seconds, POLL)))
end

-- Wakes those who wait for rows, to look for themselves.
function feed:look() self.fresh:notify() end

-- The job as load() reads it after its end; nil, err.
function feed:ending(load) return self.cache:get("end", load) end

function feed:close() self.handle:cancel "nobody follows any more" end

-- A feed that begins after a position. job: jid, lines (outputs come as rows).
function feed.open(node, job, after)
  local self = setmetatable({
    store = node.store, conn = node.conn, jid = job.jid, lines = job.lines, readers = 0,
    rows = {}, first = after + 1, last = after, bytes = 0, waiting = 0, names = {},
    cache = shared.new(CACHE), pages = shared.new(BEHIND),
    fresh = fiber.event(), wanted = fiber.event(),
  }, feed)
  local err
  self.handle, err = fiber.spawn("follow " .. job.jid, run, self)
  if not self.handle then return nil, err end
  return self
end

return feed
