-- SPDX-License-Identifier: MIT
-- Follows a job for a client: chooses the form by the request, begins at the client's position, and
-- writes the job, its rows as they come, and its end.
--
-- A position is the id of the last row that the client has; 0, the default, is the beginning. The
-- end has an id too, the one after the last row's. With a position the job object is left out: the
-- client has it.

local accept = require "exed.api.accept"
local answer = require "exed.answer"
local forms = require "exed.follow.forms"
local json = require "exed.json"
local timer = require "exed.timer"

local stream = {}

local RUNNING <const> = 1
local NAMES <const> = 500 -- of targets at once: a chunk of the store's
local DIGITS <const> = 15 -- of an id; the store's numbers are exact that far

-- ---- the request --------------------------------------------------------------------------------

local function form_of(req)
  if req.socket then return forms.messages end
  return forms.by_type[accept.choose(req.headers.accept, forms.types)]
end

-- The position that the request names, and the name of the field; or nil, err. An EventSource that
-- comes back says it in a header, and its address still has the first one.
local function asked_position(req, form)
  local id = req.headers["last-event-id"]
  if form ~= forms.events or not id or id == "" then return req.query.from or 0, "from" end
  if not id:find "^%d+$" or #id > DIGITS then
    return nil, { code = "bad_request", message = "Last-Event-ID should be an id of this stream" }
  end
  return math.tointeger(tonumber(id)), "Last-Event-ID"
end

local function last_position(job) return job.state == RUNNING and job.last or job.last + 1 end

-- The job, and the position to go on from; or nil, err. What other followers know of the job may be
-- older than what the client has seen on another node.
local function find(req, form, load)
  local jid = req.params.jid
  local position, field = asked_position(req, form)
  if not position then return nil, field end
  local job, err = req.node.follow:job(jid, load)
  if job and position > last_position(job) then job, err = load() end
  if not job then return nil, err end
  if position > last_position(job) then
    return nil, {
      code = "bad_request",
      message = ("%s: %d is not an id of this stream, the last one is %d"):format(field, position,
        last_position(job)),
    }
  end
  return job, position
end

-- ---- the answer ---------------------------------------------------------------------------------

local function ending_of(job)
  return ('{"state":%d,"error":%s}'):format(job.state, json.encode(job.fields.error or ""))
end

-- Writes a row's object, without its braces: { host: record }, or of what is for all targets one
-- with each of them. Returns true, or nil, err.
local function write_object(self, out, reader, row)
  local function write(piece) out:write(piece) end
  if not reader:is_for_all(row) then
    out:write(row.key, ":")
    return reader:write(row, write)
  end
  local total = self.job.total
  for from = 0, total - 1, NAMES do
    local names, err = reader:keys(from, math.min(NAMES, total - from))
    if not names then return nil, err end
    for i, name in ipairs(names) do
      out:write(from + i > 1 and "," or "", name, ":")
      local ok
      ok, err = reader:write(row, write)
      if not ok then return nil, err end
    end
  end
  return true
end

-- Writes the rows until the job has ended. Returns true, or nil, err.
local function write_rows(self, out, reader, held)
  local form, beat = self.form, self.form.beat and self.heartbeat
  local sent = timer.now()
  for row in reader:rows { first = held, wait = beat } do
    if row and reader:shows(row) then
      local before, after = form.row(row.id)
      out:write(before)
      local ok, err = write_object(self, out, reader, row)
      if not ok then return nil, err end
      out:write(after)
      out:flush()
      sent = timer.now()
    elseif beat and timer.now() - sent >= beat then
      out:write(form.beat(reader.position))
      out:flush()
      sent = timer.now()
    end
  end
  return not reader.failed, reader.failed
end

local function write_end(self, out, reader)
  if not self.form.finish then return true end
  local job, err = reader:ending(self.load)
  if not job then return nil, err end
  out:write(self.form.finish(job.last + 1, ending_of(job)))
  out:flush()
  return true
end

local function write_job(self, out, reader)
  local form = self.form
  if form.first then out:write(form.first) end
  if self.position > 0 then return true end
  out:write(form.job[1])
  local ok, err = answer.object(self.node, self.job, out, { reader = reader })
  if not ok then return nil, err end
  out:write(form.job[2])
  out:flush()
  return true
end

-- What a client gets. A position that is not there any more must be known before the first byte.
local function run(self, out)
  local job = self.job
  local reader <close>, err = self.node.follow:open(job, math.min(self.position, job.last))
  if not reader then return nil, err end
  local held
  if self.position > 0 and self.position < job.last then
    held, err = reader:next()
    if not held then return nil, err end
  end
  local ok
  ok, err = write_job(self, out, reader)
  -- The head of the answer must not wait for a row.
  if ok and self.position > 0 then out:begin() end
  if ok then ok, err = write_rows(self, out, reader, held) end
  if not ok then return nil, err end
  return write_end(self, out, reader)
end

-- The answer to a request that follows the job: status, function, headers; or nil, err. load reads
-- the job anew.
function stream.answer(req, load)
  local form = form_of(req)
  local job, position = find(req, form, load)
  if not job then return nil, position end
  local self = {
    node = req.node, job = job, position = position, form = form, load = load,
    heartbeat = req.node.config.api.heartbeat,
  }
  local function make(out) return run(self, out) end
  if req.socket then return 101, make end
  if form == forms.events and job.state ~= RUNNING and position > job.last then return 204 end
  return 200, make, {
    ["Content-Type"] = form.type, Vary = "Accept",
    -- Neither may be kept or held back on its way.
    ["Cache-Control"] = form.shows_ids and "no-store" or nil,
    ["X-Accel-Buffering"] = form.shows_ids and "no" or nil,
  }
end

return stream
