-- SPDX-License-Identifier: MIT
-- Follows jobs: the node has one hub, a followed job one feed, a follower one reader. 200 followers
-- of a job cost the store what one costs. A reader's position is the dense id of the last row that
-- it gave, so a follower that comes back with it misses nothing and gets nothing twice.
--
--   local hub = follow.new(node)                    node: store, conn, config
--   local reader <close> = hub:open(job, 0)         job: jid, lines; rows after 0
--   for row in reader:rows() do ... end             until the job has ended; reader.failed: why not
--   hub:leave()                                     the node ends, and so do its followers
--   row: id, index, key (the host's name as JSON), kind, effect, status, entry

local feed = require "exed.follow.feed"
local render = require "exed.follow.render"
local shared = require "exed.follow.shared"
local timer = require "exed.timer"

local follow = {}

local hub = {}
hub.__index = hub

local reader = {}
reader.__index = reader

local RECENT <const> = 1 -- seconds that a job's hash, once read, is good for its other followers
local LEAVE <const> = 0.3 -- seconds in which followers still get what comes
local TURN <const> = 200 -- rows that a reader gives before others have their turn

function follow.new(node)
  return setmetatable({ node = node, feeds = {}, loading = shared.new(0) }, hub)
end

-- A reader of the job's rows after a position; nil, err when there are too many fibers.
function hub:open(job, after)
  local found = self.feeds[job.jid]
  if not found or found.failed then
    local err
    found, err = feed.open(self.node, job, after)
    if not found then return nil, err end
    self.feeds[job.jid] = found
  end
  if found.job ~= job then found.job, found.job_at = job, timer.now() end
  found.readers = found.readers + 1
  return setmetatable({
    hub = self, feed = found, position = after, own = {}, at = 0, turn = 0, lines = job.lines,
    alias = self.node.config.api.state_alias,
  }, reader)
end

-- How many readers there are, of all jobs.
function hub:readers()
  local n = 0
  for _, found in pairs(self.feeds) do n = n + found.readers end
  return n
end

-- The job as load() reads it (nil, err when it cannot), or as another follower has just read it.
function hub:job(jid, load)
  local found = self.feeds[jid]
  if found and timer.now() - found.job_at < RECENT then return found.job end
  return self.loading:get(jid, load)
end

-- The node ends: a follower gets what there is, and then an err with code "leaving".
function hub:leave()
  self.leaving = timer.now() + LEAVE
  for _, found in pairs(self.feeds) do found:look() end
end

-- Gives back what it holds; a second time does nothing.
function reader:close()
  local found = self.feed
  if not found then return end
  self.feed = nil
  found.readers = found.readers - 1
  if found.readers > 0 then return end
  found:close()
  if self.hub.feeds[found.jid] == found then self.hub.feeds[found.jid] = nil end
end

reader.__close = reader.close

-- The next of the rows that this reader has read for itself, behind the feed's window.
local function own_row(self)
  self.at = self.at + 1
  local row = self.own[self.at]
  if not row then self.own, self.at = {}, 0 end
  return row
end

-- The next row; nil when the job has ended and all was read; nil, err; false when there was none
-- for `wait` seconds (nil: for ever).
function reader:next(wait)
  self.turn = self.turn + 1
  if self.turn % TURN == 0 then timer.sleep(0) end
  local deadline = wait and timer.now() + wait or math.huge
  while true do
    local found = self.feed
    local row = own_row(self) or found:after(self.position)
    if row then
      self.position = row.id
      return row
    end
    if found:is_past(self.position) then
      local rows, err = found:behind(self.position)
      if not rows then return nil, err end
      self.own, self.at = rows, 0
    elseif found.failed then
      return nil, found.failed
    elseif found.ended then
      return nil
    elseif self.hub.leaving and timer.now() >= self.hub.leaving then
      return nil, { code = "leaving", message = "the node ends" }
    elseif timer.now() >= deadline then
      return false
    else
      found:wait(math.min(deadline, self.hub.leaving or deadline) - timer.now())
    end
  end
end

-- Iterator over next; when it was an error that ended it, that is in self.failed. options: last
-- (the row to end at, when it is not the end of the job), first (a row that next gave and that is
-- to come again), wait (false comes when there was none for so many seconds).
function reader:rows(options)
  local last, first, wait
  if options then last, first, wait = options.last, options.first, options.wait end
  return function()
    if first then
      local row = first
      first = nil
      return row
    end
    if last and self.position >= last then return nil end
    local row, err = self:next(wait)
    self.failed = err
    return row
  end
end

-- The job as it ended, read once for all its followers; nil, err.
function reader:ending(load) return self.feed:ending(load) end

-- Writes the row's value as one JSON object by write(piece): a record, or with `lines` a part.
-- Returns true, or nil, err.
function reader:write(row, write)
  if row.kind == "part" or row.kind == "lines" then
    write(render.lines(row))
    return true
  end
  return render.record(self.feed, row, write, self.alias)
end

-- What a task's followers were told, target by target: { rows, next }, rows of the targets
-- from..to-1, those of `from` after an id, as many as one call gives; next is the target to ask for
-- next. nil, err.
function reader:grouped(from, to, after) return self.feed:grouped(from, to, after) end

-- Names of `count` targets from index `from` on, as the inside of a JSON array; nil, err. Whole
-- chunks of the store's 500, or up to the last target.
function reader:names(from, count) return self.feed:names_text(from, count) end

-- At most 500 names, from a multiple of 500 on, as a list of JSON texts; nil, err.
function reader:keys(from, count) return self.feed:keys(from, count) end

local SHOWN <const> = { record = true, announce = true, outcome = true }

-- Whether followers see the row: parts of outputs only when the job was asked for lines.
function reader:shows(row) return self.lines or SHOWN[row.kind] or false end

-- Whether the row is for all targets: what a task announces.
function reader:is_for_all(row)
  return row.kind == "announce" and row.entry:find('"everywhere":true', 1, true) ~= nil
end

return follow
