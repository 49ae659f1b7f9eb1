-- SPDX-License-Identifier: MIT
-- Standard output and error of a verb, and the progress line.
--
-- What goes to a terminal is escaped: a host's output must not move the cursor, change the title
-- or hide lines. What goes to a file or a pipe is as it came: a program wants the very bytes.
-- Text waits here until flush, so that one batch of records costs one write, in the order in which
-- it was put. When standard output takes no more, `closed` says why: a verb whose output was lost
-- does not end with 0.

local fiber = require "exed.fiber"
local stdio = require "exed.stdio"
local text = require "exed.text"

local output = {}
output.__index = output

local STDOUT <const>, STDERR <const> = 1, 2
local CLEAR <const> = "\r\27[K"
local MAX_QUEUED <const> = 1 << 20 -- bytes that may wait before a put waits

function output.new()
  local terminal = { stdio.is_terminal(STDOUT), stdio.is_terminal(STDERR) }
  return setmetatable({
    terminal = terminal, queue = {}, queued = 0, event = fiber.event(), progress = nil,
    closed = nil,
  }, output)
end

local function write(self, fd, bytes)
  if self.closed and fd == STDOUT then return end
  local ok, err = stdio.write(fd, bytes)
  if not ok and fd == STDOUT then
    self.closed = err.code == "closed" and "its output is not read any more"
      or "its output is lost: " .. err.message
  end
end

-- Writes what waits. A fiber that comes while another one writes leaves its text to that one.
function output:flush()
  while self.busy do self.event:wait() end
  if #self.queue == 0 then return end
  self.busy = true
  local _ <close> = setmetatable({}, { __close = function()
    self.busy = false
    self.event:notify()
  end })
  local queue = self.queue
  self.queue, self.queued = {}, 0
  if self.shown then write(self, STDERR, CLEAR) end
  self.shown = false
  local at = 1
  while at <= #queue do
    local last = at
    while queue[last + 1] and queue[last + 1].fd == queue[at].fd do last = last + 1 end
    local pieces = {}
    for i = at, last do pieces[#pieces + 1] = queue[i].bytes end
    write(self, queue[at].fd, table.concat(pieces))
    at = last + 1
  end
end

local function put(self, fd, bytes)
  if bytes == "" then return end
  if self.terminal[fd] then bytes = text.escape(bytes) end
  self.queue[#self.queue + 1] = { fd = fd, bytes = bytes }
  self.queued = self.queued + #bytes
  if self.queued > MAX_QUEUED then self:flush() end
end

-- Bytes to standard output.
function output:put(bytes) put(self, STDOUT, bytes) end

-- Bytes to standard error.
function output:complain(bytes) put(self, STDERR, bytes) end

-- A line of ours to standard error.
function output:note(format, ...) put(self, STDERR, "exed-run: " .. format:format(...) .. "\n") end

-- Shows a line below everything else, only on a terminal; nil takes it away.
function output:status(line)
  if not self.terminal[STDERR] or self.busy then return end
  self:flush()
  if line then
    local width = (stdio.width(STDERR) or 80) - 1
    line = text.escape(line)
    local cut = utf8.len(line) and utf8.len(line) > width and utf8.offset(line, width + 1)
    write(self, STDERR, CLEAR .. (cut and line:sub(1, cut - 1) or line))
  elseif self.shown then
    write(self, STDERR, CLEAR)
  end
  self.shown = line ~= nil
end

return output
