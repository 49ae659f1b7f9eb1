-- SPDX-License-Identifier: MIT
-- Follows a job of a running exed to its end, over lost connections, and hands its rows to whoever
-- shows them.
--
--   local f = follower.new { jid, path, node, out, shown, from }
--   f:follow(patience) -> true | nil, err
--   f.ending: { state, error }      f.position: of the last row

local json = require "exed.json"
local timer = require "exed.timer"

local follower = {}
follower.__index = follower

local NDJSON <const> = "application/x-ndjson"
local IDLE <const> = 60 -- seconds without a sign of life (every 15 s) after which we come back
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.2, 5 -- seconds before another try

-- ---- rows as they are ---------------------------------------------------------------------------

local plain = {}
plain.__index = plain

-- JSON may have DEL and the controls of ISO 6429 as they are; a terminal would obey.
local function harmless(line)
  return (line:gsub("\127", "\\u007f"):gsub("\xc2([\x80-\x9f])", function(byte)
    return ("\\u%04x"):format(byte:byte())
  end))
end

function plain:row(row, line) self.out:put(harmless(line or json.encode(row)) .. "\n") end

function plain:finish(ending, line) self:row({ ["end"] = ending }, line) end

plain.job = plain.row

-- Shows rows as JSON, one a line.
function follower.plain(out) return setmetatable({ out = out }, plain) end

-- ---- the stream ---------------------------------------------------------------------------------

function follower.new(options)
  return setmetatable({
    jid = options.jid, path = options.path, node = options.node, out = options.out,
    shown = options.shown, position = options.from or 0,
  }, follower)
end

-- Takes one line of the stream. Raises nothing: what is no row is an err.
local function take(self, line)
  local row, err = json.decode(line)
  if type(row) ~= "table" then return nil, err or { message = "a line is no JSON object" } end
  if row.job then
    if not self.job_seen then self.shown:job(row, line) end
    self.job_seen = true
  elseif row["end"] then
    self.ending = row["end"]
    if self.shown.task then -- what a task returned is in the job, not in its rows
      local job = self.node:ask("GET", self.path)
      self.ending.value = job and job.value
    end
    self.shown:finish(self.ending, line)
  elseif row.entry then
    self.shown:row(row, line)
  end
  self.position = math.tointeger(row.id) or self.position
  self.out:flush()
  return true
end

-- Reads a stream to its end. Returns nil and why it ended before the job did.
local function read(self, stream)
  if not (stream.headers["content-type"] or ""):find(NDJSON, 1, true) then
    return nil, {
      code = "failed", message = self.node.name .. " does not follow jobs as NDJSON",
    }
  end
  for line in stream:lines() do
    local ok, err = take(self, line)
    if not ok then return nil, err end
    self.lost = nil
    if self.ending or self.out.closed then return true end
  end
  return nil, stream.failed or { code = "cut", message = "the connection was closed" }
end

-- One connection. Returns true when there is nothing more to do, nil, err when it was lost, and
-- false, err when another one would not help.
local function connect_and_read(self)
  local path = ("%s?follow=1&from=%d"):format(self.path, self.position)
  local stream <close>, err = self.node:open(path, { headers = { Accept = NDJSON }, idle = IDLE })
  if not stream then
    if self.connected and err.away then return nil, err end
    return false, err
  end
  self.connected = true
  local ok
  ok, err = read(self, stream)
  if not ok and err.code == "failed" then return false, err end
  return ok, err
end

-- patience: seconds that a lost exed is waited for.
function follower:follow(patience)
  local pause = FIRST_PAUSE
  -- However it ends before the job does: how to go on.
  local _ <close> = setmetatable({}, { __close = function()
    if self.ending or not self.connected or self.out.closed then return end
    io.stderr:write(("exed-run: the job goes on; so does exed-run follow %s --from %d\n"):format(
      self.jid, self.position))
  end })
  while true do
    local before = self.position
    local ok, err = connect_and_read(self)
    if ok then return true end
    if ok == false then return nil, err end
    local now = timer.now()
    if self.position > before then pause = FIRST_PAUSE end
    if not self.lost and err.code ~= "timeout" then
      self.out:note("connection lost (%s), trying again", err.message)
      self.out:flush()
    end
    self.lost = self.lost or now
    if now - self.lost >= patience then
      return nil, { code = "away", away = true, message = err.message }
    end
    timer.sleep(pause)
    pause = math.min(pause * 2, LONGEST_PAUSE)
  end
end

return follower
