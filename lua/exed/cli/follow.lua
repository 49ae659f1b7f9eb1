-- SPDX-License-Identifier: MIT
-- exed-run follow: a job of a running exed, as it runs, until it ends.

local json = require "exed.json"
local options = require "exed.cli.options"
local output = require "exed.cli.output"
local remote = require "exed.cli.remote"
local report = require "exed.cli.report"
local text = require "exed.text"
local timer = require "exed.timer"
local views = require "exed.cli.views"

local STREAMS <const> = { "stdout", "stderr" }
local NDJSON <const> = "application/x-ndjson"
local IDLE <const> = 60 -- seconds without a sign of life (every 15 s) after which we come back
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.2, 5 -- seconds before another try

local parser = options.compile(remote.declare {
  usage = { "exed-run follow [OPTION...] JID" },
  about = "Shows what the hosts of a job say, as they say it, until the job has ended. A "
    .. "connection that is lost is made again, and nothing is missed or shown twice. The exit code "
    .. "is 0 when the job is done, 1 when it ended as Failure.",
  { "from", type = "integer", min = 0, value = "N", default = 0, shown = "the beginning",
    help = "go on after the row with this id; what an interrupted follow says" },
  { "json", help = "the rows as exed sends them, one JSON object a line, each with its id" },
  { "patience", type = "duration", value = "TIME", default = 60, shown = "60s",
    help = "how long an exed that was lost is waited for" },
})

-- ---- rows for people ----------------------------------------------------------------------------

local person = {}
person.__index = person

local function new_person(out)
  local self = setmetatable({
    out = out, hosts = {}, places = {}, printed = {}, counts = {},
  }, person)
  self.view = views.live(out, self.hosts, {
    say = function(record) return record.silent and report.word(record.status) or "" end,
  })
  return self
end

-- The place of a host in the view's list.
local function place_of(self, name)
  local i = self.places[name]
  if not i then
    i = #self.hosts + 1
    self.hosts[i], self.places[name], self.printed[i] = { name = name }, i, { 0, 0 }
  end
  return i
end

local function part(self, i, entry)
  local stream = entry.stream == "stderr" and 2 or 1
  local bytes = entry.lines_b64 and text.unbase64(entry.lines_b64) or entry.lines
  self.printed[i][stream] = entry.offset + #bytes
  self.view:part(i, { stream = stream, data = bytes })
end

-- A record has the output once more of which the lines came before.
local function record(self, i, found)
  local silent, printed = true, self.printed[i]
  for stream, name in ipairs(STREAMS) do
    local binary = found[name .. "_b64"]
    local bytes = binary and text.unbase64(binary) or found[name] or ""
    silent = silent and bytes == "" and printed[stream] == 0
    self.view:part(i, { stream = stream, data = bytes:sub(printed[stream] + 1) })
    found[name], found[name .. "_b64"] = nil, nil
  end
  if type(found.return_data) == "string" and found.return_data ~= "" then
    silent = false
    self.view:part(i, { stream = 1, data = found.return_data })
  end
  found.silent = silent
  self.view:record(i, found)
  self.printed[i] = { 0, 0 } -- a task's next step on it begins anew
  self.counts[found.status] = (self.counts[found.status] or 0) + 1
end

-- A task's announcement comes for every target.
local function announcement(self, entry)
  local said = tostring(entry.return_data or entry.message or "")
  if said ~= self.said then self.out:put("-- " .. said .. "\n") end
  self.said = said
end

function person:row(row)
  for name, entry in pairs(row.entry) do
    local i = place_of(self, name)
    if entry.lines then
      part(self, i, entry)
    elseif entry.status == 0 then
      announcement(self, entry)
    else
      record(self, i, entry)
    end
  end
end

function person:finish(ending)
  local words = {}
  for _, status in ipairs { 5, 1, 2, 3, 4, -1 } do
    if self.counts[status] then
      words[#words + 1] = ("%d %s"):format(self.counts[status], report.word(status))
    end
  end
  local counted = #words > 0 and ": " .. table.concat(words, ", ") or ""
  local why = ending.error ~= "" and " (" .. ending.error .. ")" or ""
  self.out:note("job %s%s%s", remote.state_word(ending), counted, why)
end

function person.job() end

-- ---- rows as they are ---------------------------------------------------------------------------

local plain = {}
plain.__index = plain

-- JSON may have DEL and the controls of ISO 6429 as they are; a terminal would obey.
local function harmless(line)
  return (line:gsub("\127", "\\u007f"):gsub("\xc2([\x80-\x9f])", function(byte)
    return ("\\u%04x"):format(byte:byte())
  end))
end

function plain:row(_, line) self.out:put(harmless(line) .. "\n") end

function plain:finish(_, line) self.out:put(harmless(line) .. "\n") end

plain.job = plain.row

-- ---- the stream ---------------------------------------------------------------------------------

-- Takes one line of the stream. Raises nothing: what is no row is an err.
local function take(self, line)
  local row, err = json.decode(line)
  if type(row) ~= "table" then return nil, err or { message = "a line is no JSON object" } end
  if row.job then
    if not self.job_seen then self.shown:job(row, line) end
    self.job_seen = true
  elseif row["end"] then
    self.ending = row["end"]
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

local function follow(self, patience)
  local pause = FIRST_PAUSE
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

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 1 then options.refuse("one jid is wanted, %d words were given", #given) end
  local out = output.new()
  local self = {
    path = remote.job_path(given[1]), node = remote.connect(given), position = given.from,
    out = out, shown = given.json and setmetatable({ out = out }, plain) or new_person(out),
  }
  -- However it ends before the job does: how to go on.
  local _ <close> = setmetatable({}, { __close = function()
    if self.ending or not self.connected or out.closed then return end
    io.stderr:write(("exed-run: the job goes on; so does exed-run follow %s --from %d\n"):format(
      given[1], self.position))
  end })
  local ok, err = follow(self, given.patience)
  if not ok then return remote.fail("follow", err) end
  if out.closed then return 1 end
  return self.ending.state == 0 and 0 or 1
end

return { summary = "watch a job of a running exed until it ends", usage = parser.help, run = run }
