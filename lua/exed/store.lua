-- SPDX-License-Identifier: MIT
-- The job store as the node sees it: thin calls of the functions of lua/store/functions.lua, with
-- plain tables in and out. Every function waits and answers nil, err when the store refuses or is
-- away; err.code is the error's word in lower case (stale, gone, ended, conflict, full, running,
-- mismatch, accepting, stopped) or one of the runtime's (away, unreachable, timeout).

local create = require "exed.store.create"
local json = require "exed.json"
local metrics = require "exed.metrics"
local timer = require "exed.timer"

local store = {}
store.__index = store

local CHUNK <const> = 500 -- names in a chunk of targets, as the functions have it
local WHOLE <const> = 2000 -- targets that one call may walk

-- conn is an exed.redis connection with the function library.
function store.new(conn) return setmetatable({ conn = conn }, store) end

-- Wall clock microseconds, as the functions take times.
function store.now() return string.format("%d", math.floor(timer.wall() * 1e6)) end

-- Calls a function; an argument that is a list stands for its items.
function store:call(name, ...) return self.conn:fcall("exed_1_" .. name, ...) end

-- Whether the store may answer later: the call was not done, or nobody knows.
function store.is_passing(err)
  return err.code == "away" or err.code == "unreachable" or err.code == "timeout"
    or err.code == "limit"
end

-- Calls until the store answers, for what must be done; other errors are returned.
function store:insist(name, ...)
  local pause = 0.05
  while true do
    local answer, err = self:call(name, ...)
    if answer or not store.is_passing(err) then return answer, err end
    timer.sleep(pause)
    pause = math.min(pause * 2, 1)
  end
end

-- { a, b, c, d } -> { a = b, c = d }
local function to_fields(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- ---- creating -----------------------------------------------------------------------------------

-- Creates a job, of exed.store.create; node: id, incarnation. Returns { how = "CREATED"|"REPLAY",
-- jid, state }.
function store:create(job, node)
  local answer, err = create(self, job, node)
  if not answer then return nil, err end
  return { how = answer[1], jid = answer[2], state = answer[3] }
end

-- The jid of the job that was made with that Idempotency-Key and hash; "" when there is none.
function store:replayed(key, hash) return self:call("replayed", key, hash) end

-- ---- slices -------------------------------------------------------------------------------------

local function to_slice(row)
  return {
    jid = row[1], k = row[2], from = row[3], to = row[4], epoch = row[5], deaths = row[6],
    stop = row[7] ~= "" and row[7] or nil,
  }
end

local function to_slices(rows)
  for i, row in ipairs(rows) do rows[i] = to_slice(row) end
  return rows
end

-- Slices of any job but those of the jids in `enough`.
function store:take(node, max, enough)
  local rows, err = self:call("take", node.id, node.incarnation, max, enough)
  if not rows then return nil, err end
  return to_slices(rows)
end

-- Slices that this node owned in an earlier life.
function store:reclaim(node, max)
  local rows, err = self:insist("reclaim", node.id, node.incarnation, max)
  if not rows then return nil, err end
  return to_slices(rows)
end

-- Slices that this node owns, whether it knows of them or not; at most max.
function store:owned(node, max)
  local rows, err = self:call("owned", node.id, max)
  if not rows then return nil, err end
  return to_slices(rows)
end

-- Takes a slice (a row of `owned`) from a node whose beat was seen to stand still. Returns nil, err
-- when the slice or the node has moved meanwhile.
function store:take_over(node, row, dead)
  local seen = to_slice(row)
  local answer, err = self:call("take_over", node.id, node.incarnation, seen.jid, seen.k, dead.id,
    seen.epoch, dead.beat)
  if not answer then return nil, err end
  return to_slice(answer)
end

-- Stops a job; returns the slices that nobody had taken, which the caller has to account for.
function store:cancel(node, jid, reason)
  local slices = {}
  while true do
    local rows, err = self:call("cancel", jid, store.now(), reason, node.id, node.incarnation)
    if not rows then return nil, err, slices end
    for i = 2, #rows do slices[#slices + 1] = to_slice(rows[i]) end
    if #rows == 1 then return slices end
  end
end

-- What is known of a slice's targets: from and a text with a character each: "0" not started,
-- "1" started without a record, "2" done.
function store:marks(slice, effect)
  local answer, err = self:insist("marks", slice.jid, slice.k, effect)
  if not answer then return nil, err end
  return answer[3]
end

local function count_end(answer)
  if answer[4] ~= 1 then return end
  local result = answer[2] == 0 and 'result="done"' or 'result="failure"'
  metrics.count("exed_jobs_ended_total", result)
end

-- Ends the slice, and with the last one the job. Returns true, or nil, err.
function store:slice_end(slice)
  local answer, err = self:insist("slice_end", slice.jid, slice.k, slice.epoch, store.now())
  if not answer then return nil, err end
  count_end(answer)
  self:release(slice.jid, answer[3])
  return true
end

-- Ends the job with this result whatever its other slices say. value: what a task returned, or nil.
function store:finish(slice, result, text, value)
  local answer, err = self:insist("finish", slice.jid, slice.k, slice.epoch, store.now(), result,
    text, value ~= nil and json.encode(value) or "")
  if not answer then return nil, err end
  count_end(answer)
  self:release(slice.jid, answer[3])
  return true
end

-- Frees the leases that the end of a large job left for later calls.
function store:release(jid, more)
  while more == 1 do more = self:insist("release", jid) end
end

-- ---- reading ------------------------------------------------------------------------------------

-- The job's hash as a table of texts; nil, err (code "gone") when there is none.
function store:get(jid)
  local flat, err = self:call("get", jid)
  if not flat then return nil, err end
  return to_fields(flat)
end

-- The same with these fields alone, of which one is "state". It is one command of Redis, without a
-- function: the cheapest that there is.
function store:look(jid, names)
  local fields, err = self.conn:fields("exed:job:" .. jid, names)
  if not fields then return nil, err end
  if fields.state == "running" or fields.state == "ended" then return fields end
  return nil, { code = "gone", message = "no job " .. jid }
end

-- Names of the targets from..to-1 (from 0); all of them without a range.
function store:targets(jid, from, to)
  from = from or 0
  local names, first = {}, from // CHUNK
  local last = to and (to - 1) // CHUNK or math.huge
  local step = WHOLE // CHUNK
  while first <= last do
    local chunks, err = self:call("targets", jid, first,
      math.tointeger(math.min(first + step - 1, last)))
    if not chunks then return nil, err end
    for _, chunk in ipairs(chunks) do
      local part = json.decode(chunk)
      table.move(part, 1, #part, #names + 1, names)
    end
    if #chunks < step then break end
    first = first + step
  end
  local skip = from % CHUNK
  return skip == 0 and not to and names or table.move(names, skip + 1, skip + (to or #names) - from,
    1, {})
end

-- The names of the targets from..to-1 as the inside of a JSON list; `from` is the first of a chunk,
-- and `to` too or the job's total. Nothing of it is read here, so it costs little.
function store:targets_text(jid, from, to)
  local chunks, err = self:call("targets", jid, from // CHUNK, (to - 1) // CHUNK)
  if not chunks then return nil, err end
  for i, chunk in ipairs(chunks) do chunks[i] = chunk:sub(2, -2) end
  return table.concat(chunks, ",")
end

-- Entries after the dense id `after`: { state, last, rows }, row = { id, index, kind, effect,
-- status, entry }. bare: parts of outputs come without their bytes.
function store:page(jid, after, count, max_bytes, bare)
  local answer, err = self:call("page", jid, after, count, max_bytes, bare and "1" or "0")
  if not answer then return nil, err end
  return {
    state = answer[1], last = answer[2],
    rows = table.move(answer, 3, #answer, 1, {}),
  }
end

-- What a task's followers were told of the targets from..to-1, as rows of page; those of `from`
-- after the id `after` (0: all). At most count rows and about max_bytes. Returns the rows and the
-- target to ask for next, or nil, err.
function store:grouped(jid, from, to, after, count, max_bytes)
  local answer, err = self:call("grouped", jid, from, to, after, count, max_bytes)
  if not answer then return nil, err end
  return { next = table.remove(answer, 1), rows = answer }
end

-- Where the output in parts of a target lies: { { id, stream }, ... }, stream by stream, in order.
function store:parts(jid, effect, index)
  local flat, err = self:call("parts", jid, effect, index)
  if not flat then return nil, err end
  local parts = {}
  for i = 1, #flat, 2 do parts[#parts + 1] = { id = flat[i], stream = flat[i + 1] } end
  return parts
end

-- One entry of the results by its id.
function store:entry(jid, id) return self:call("entry", jid, id) end

-- Calls fn({ host, mode, epoch, jids }) for each lease; a host may come twice while leases change.
function store:leases(fn)
  local cursor = "0"
  repeat
    local answer, err = self:call("leases", cursor, 1000)
    if not answer then return nil, err end
    cursor = answer[1]
    for i = 2, #answer, 4 do
      local jids = {}
      for jid in answer[i + 3]:gmatch "[^,]+" do jids[#jids + 1] = jid end
      fn { host = answer[i], mode = answer[i + 1], epoch = answer[i + 2], jids = json.array(jids) }
    end
  until cursor == "0"
  return true
end

-- Jids by start, newest last.
function store:list(all)
  local jids, from = {}, 0
  while true do
    local part, err = self:call("list", all and "all" or "listed", from, 2000)
    if not part then return nil, err end
    table.move(part, 1, #part, #jids + 1, jids)
    if #part < 2000 then return jids end
    from = from + 2000
  end
end

-- Deletes an ended job.
function store:remove(jid)
  local more, err = self:call("remove", jid)
  while more == 1 do more, err = self:insist("remove", jid) end
  if not more then return nil, err end
  return true
end

return store
