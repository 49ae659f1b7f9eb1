-- SPDX-License-Identifier: MIT
-- How a job comes into the store: a large one in pieces; small ones, that are asked for at once, by
-- one call for several of them. self is the store of exed.store.

local fiber = require "exed.fiber"
local in_turns = require "exed.in_turns"
local json = require "exed.json"
local timer = require "exed.timer"

local CHUNK <const> = 500 -- names in a chunk of targets, as the functions have it
local WHOLE <const> = 2000 -- targets that one call may create
local GROUP <const> = 64 -- jobs in one call: some milliseconds of the store
local PATIENCE <const> = 10 -- seconds in which a call with a lost answer is made again

local function chunks_of(names)
  if #names <= CHUNK then return { json.encode(json.array(names)) } end
  local chunks = {}
  for first = 1, #names, CHUNK do
    local part = table.move(names, first, math.min(first + CHUNK - 1, #names), 1, {})
    chunks[#chunks + 1] = json.encode(json.array(part))
  end
  return chunks
end

local function add_rows(args, rows, width)
  args[#args + 1] = #rows // width
  if #rows > 0 then table.move(rows, 1, #rows, #args + 1, args) end
end

-- The head of exed_1_create's arguments. Fields that are empty are left out.
local function create_args(self, job, node, whole)
  local args = {
    job.jid, self.now(), node.id, node.incarnation, whole and "1" or "0", #job.targets, job.lock,
    job.listed and "1" or "0", job.priority or 0, job.idem_key or "", job.idem_hash or "",
    job.max_jobs, job.max_memory, 0,
  }
  local size = #args
  local at = size
  for name, value in pairs(job.fields) do
    if value ~= "" then
      args[at + 1], args[at + 2] = name, value
      at = at + 2
    end
  end
  args[size] = (at - size) // 2
  return args
end

local function no_match_rows(job, first, last)
  local rows = {}
  for index = math.max(job.known, first), last do
    rows[#rows + 1], rows[#rows + 2] = index, job.no_match
  end
  return rows
end

-- Asks again while the answer may have been lost: create is idempotent by its jid. An err that
-- leaves open whether the job exists has unsure = true.
local function patient(self, name, ...)
  local deadline, pause = timer.now() + PATIENCE, 0.05
  local unsure = false
  while true do
    local answer, err = self:call(name, ...)
    if answer then return answer end
    unsure = unsure or err.code == "unreachable" or err.code == "timeout"
    if not self.is_passing(err) or not unsure or timer.now() > deadline then
      err.unsure = unsure and self.is_passing(err)
      return nil, err
    end
    timer.sleep(pause)
    pause = math.min(pause * 2, 1)
  end
end

local function create_large(self, job, node)
  local args = create_args(self, job, node, false)
  add_rows(args, {}, 2)
  add_rows(args, {}, 1)
  add_rows(args, {}, 2)
  local answer, err = patient(self, "create", args)
  if not answer or answer[1] ~= "CREATED" then return answer, err end
  for first = 1, #job.targets, WHOLE do
    local last = math.min(first + WHOLE - 1, #job.targets)
    args = { job.jid, (first - 1) // CHUNK }
    add_rows(args, chunks_of(table.move(job.targets, first, last, 1, {})), 1)
    add_rows(args, no_match_rows(job, first - 1, last - 1), 2)
    local added
    added, err = patient(self, "create_add", args)
    if not added then return nil, err end
  end
  if job.lock ~= "none" then
    local sorted = in_turns.sorted(job.targets, job.known)
    for first = 1, #sorted, WHOLE do
      args = table.move(sorted, first, math.min(first + WHOLE - 1, #sorted), 2, { job.jid })
      local claimed
      claimed, err = patient(self, "create_claim", args)
      if not claimed then return nil, err end
    end
  end
  args = { job.jid, self.now() }
  add_rows(args, job.slices, 2)
  return patient(self, "create_commit", args)
end

-- ---- jobs that come at once ---------------------------------------------------------------------

-- "CONFLICT who" -> the err that it would be as an answer of its own
local function to_err(text)
  local word, rest = text:match "^(%S*) ?(.*)$"
  return { code = word:lower(), message = rest, operation = "redis.fcall" }
end

local function copy_err(err)
  return {
    code = err.code, message = err.message, operation = err.operation, unsure = err.unsure,
  }
end

-- Makes the group's jobs, in as many calls as the store wants. group.answers: to each job what
-- create answers, or an err.
local function make_group(self, group)
  -- Whoever waits goes on whatever happens here.
  local _ <close> = setmetatable({}, { __close = function() group.done:notify() end })
  if self.group == group then self.group = nil end
  local jobs, answers = group.jobs, group.answers
  while #answers < #jobs do
    local first, some = #answers + 1, {}
    for i = first, #jobs do some[#some + 1], some[#some + 2] = #jobs[i], jobs[i] end
    local made, err = patient(self, "create_some", #jobs - first + 1, table.unpack(some))
    for i = first, made and first + #made - 1 or #jobs do
      local answer = made and made[i - first + 1] or copy_err(err)
      answers[i] = type(answer) == "string" and to_err(answer) or answer
    end
  end
end

-- The answer to create with these arguments. Those that are asked for in one turn of the loop are
-- one call: half of what a small job costs the store is what comes with any call. It is made by a
-- fiber of its own, which no client's leaving ends.
local function create_in_group(self, args)
  local group = self.group
  if not group or #group.jobs == GROUP then
    group = { jobs = {}, answers = {}, done = fiber.event() }
    local made, err = fiber.spawn("create", make_group, self, group)
    if not made then return nil, err end
    self.group = group
  end
  local place = #group.jobs + 1
  group.jobs[place] = args
  group.done:wait()
  local answer = group.answers[place]
  if answer and answer[1] then return answer end
  return nil, answer or { code = "closed", message = "the node ends", unsure = true }
end

-- job: jid, fields (name -> text, kept in its hash), targets (names), known (so many of them, the
-- first, are in the inventory), no_match (record of the others, JSON), slices (flat: from, to),
-- lock, listed, priority, idem_key, idem_hash, max_jobs, max_memory. node: id, incarnation. Returns
-- what the store's function answers, or nil, err; err.unsure: the job may exist.
return function(self, job, node)
  if #job.targets > WHOLE then
    local answer, err = create_large(self, job, node)
    if not answer and not err.unsure then self:call("create_undo", job.jid) end
    return answer, err
  end
  local args = create_args(self, job, node, true)
  add_rows(args, job.slices, 2)
  add_rows(args, chunks_of(job.targets), 1)
  add_rows(args, no_match_rows(job, 0, #job.targets - 1), 2)
  return create_in_group(self, args)
end
