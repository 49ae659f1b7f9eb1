#!lua name=exed_1
-- SPDX-License-Identifier: MIT
-- The job store: every change of a key goes through a function of this library. It runs inside
-- Redis (Lua 5.1: numbers are doubles, exact up to 2^53, which is why times in microseconds are
-- safe). It is one file because Redis loads a library as one text. No function walks more than
-- 2,000 hosts; none parses a record.
--
-- Call: FCALL exed_1_NAME 0 ARG...; all arguments are strings. Times (now) are the caller's wall
-- clock in microseconds. Targets are named by index, from 0; a slice is the indexes from..to-1. n
-- is the effect (0: a plain operation). (a b)*N stands for N rows of a and b.
-- SLICE in an answer is {jid, k, from, to, epoch, deaths, stop}: integers, but jid and stop are
-- text (stop is '' when the job goes on). deaths: owners lost in a row without a new record; at 3
-- the slice is poisoned.
--
-- name          arguments -> answer
-- version       -> revision of this file
-- register      node version -> incarnation
-- beat          node incarnation running -> beat counter
-- nodes         -> {{id, field, value, ...}, ...}
-- forget        node seen_beat -> 1; RUNNING when it still owns slices, STALE when it beat since
-- create        jid now node incarnation whole(1|0) total lock(none|shared|exclusive) listed(1|0)
--               priority idem_key idem_hash max_jobs max_memory F (field value)*F S (from to)*S
--               C chunk*C M (index entry)*M -> {"CREATED"|"REPLAY", jid, state}
-- create_some   N (A arg*A)*N, each the arguments of one create -> a list of what create answers to
--               each, or the text of its error: as if it had come alone, after those before it. At
--               least one; the rest is asked again when they have many hosts
-- replayed      idem_key idem_hash -> jid of the job that was made with them, or ''
-- create_add    jid at(number of the first chunk) C chunk*C M (index entry)*M -> chunks there are
-- create_claim  jid host... -> number of hosts (names sorted over all calls of one job)
-- create_commit jid now S (from to)*S -> {"CREATED", jid, state}
-- create_undo   jid -> 1 (then remove, until it answers 0)
-- accepting     -> {{jid, node, incarnation}, ...}
-- ready         -> {slices that wait, used_memory, jobs, those that ended, those being accepted}
-- take          node incarnation max jid... -> {SLICE, ...}, none of these jobs
-- reclaim       node incarnation max -> {SLICE, ...}; call until empty
-- owned         node max -> {SLICE, ...}
-- take_over     node incarnation jid k seen_owner seen_epoch seen_beat -> SLICE
-- hand_back     jid k epoch -> 1
-- marks         jid k n [from to] -> {from, to, text}: a character for each target: 0 not started,
--               1 started without a record, 2 done
-- mark          jid k epoch n index... -> 1
-- mark_ops      jid k epoch (n index)... -> 1: as mark, for effects that have one target each
-- hold          jid k epoch -> why the job was stopped, or '': the slice is the caller's, and what
--               was started of it may be settled by it
-- append        jid k epoch n seq (index kind status bytes entry)... -> {added, last id, output
--               bytes of the job, stop, tight}
-- append_ops    jid k epoch first seq (n index kind status bytes entry)... -> as append, for
--               effects with one target each; first: the effect by which these calls are numbered
-- slice_end     jid k epoch now -> {slices left, result, more [, 1]}; 1: this call ended the job
-- finish        jid k epoch now result error [value] -> {0, result, more [, 1]}: ends the job as
--               its owner says
-- cancel        jid now reason node incarnation -> {phase, SLICE, ...}; call until no SLICE comes
-- release       jid -> 1 when leases are left to free (call again), else 0
-- remove        jid -> 1 when there is more to do (call again), else 0
-- get           jid -> {field, value, ...}
-- list          listed|all from count -> {jid, ...} by start, newest last; from counts the oldest
-- targets       jid first last -> {chunk, ...}
-- page          jid after count max_bytes [bare] -> {state, last id, {id, index, kind, n, status,
--               entry}, ...}; with bare = 1 the entry of a part or of lines is ''
-- parts         jid n index -> {id, stream, ...}: where the parts of a target's output lie
-- entry         jid id -> the entry with that id
-- journal       jid k epoch seq entries entry*N (index kind status bytes entry)... -> {last id,
--               bytes, stop}: a task's journal, and what it says to followers (announce, outcome)
-- journal_read  jid after count max_bytes -> {last id, {id, entry}, ...}
-- found         jid n index... -> {index, status, entry, ...}: those records of effect n that there
--               are
-- grouped       jid from to after count max_bytes -> {next, {id, index, kind, n, status, entry},
--               ...}: what a task's followers were told of the targets from..to-1, target by
--               target, in the order of each; those of `from` after that id (0: all). An
--               announcement to all comes with each. next: the target to ask for next; `to` when
--               that was all
-- waiting       jid k epoch text -> 1: what the task waits for, or ''
-- ask_task      jid verb text n -> {verb}: approve (text is the answer to question n; once); or
--               pause and resume of any job
-- ask           ear number jid -> nodes that were asked what they run of that job
-- tell          ear text -> 1: the answer to who asked, when it still listens
-- tally         jid k epoch now host name add|clear|look seconds n -> how often effects of tasks
--               added to that tally of the host in the last seconds; an effect n counts once
-- repin         jid last pins request -> 1: a paused task goes on with other pins, if its journal
--               still ends at `last`; its slice has no owner any more
-- source_put    sha text seconds -> 1
-- source_keep   sha seconds -> 1: it is kept for so long from now on; 0: it is not there
-- source_get    sha -> text or ''
-- pin           jid name sha -> sha: the first that was given for that name of this job
-- leases        cursor count -> {next cursor, host, mode, epoch, jids, ...}; jids with commas
-- sweep         now ttl sync_keep sync_age max_jobs -> {removed, more}
--
-- create is idempotent by its jid. With whole = 0 it leaves the job `accepting`, takes no lease
-- and ignores slices; add, claim and commit follow. A chunk is a JSON list of 500 names, the last
-- one of fewer; a job of one chunk has it in its hash, as `names`. (index entry) are the targets
-- that are NO MATCH, with their records; no slice needs them.
-- append: kind is record, part, lines, announce or outcome. A record whose done bit is set is
-- skipped. seq
-- numbers the calls of one (slice, epoch) from 1 without a gap; a number that was seen is answered
-- and not done again; 0 (records only) is not looked at. tight = 1: the store holds over 9/8 of the
-- job's max_memory, so outputs are to be cut (looked at when a call brings a lot of them).
-- slice_end: the last slice ends the job, by its counts. more = 1: call release until it says 0.
--
-- Published: exed:wake:JID "last id" or "end"; exed:ready "JID" (slices can be taken);
-- exed:control "cancel JID"; exed:ask "EAR NUMBER JID" and exed:told:EAR "NUMBER LIST".
--
-- Errors begin with one word: STALE (another owner, or another incarnation), GONE (no such job or
-- slice), ENDED (the job or slice has ended), STOPPED reason (no host may start any more), RUNNING
-- (not possible while it runs), MOVED (the journal went on), CONFLICT {host: [jid, ...]}, FULL why,
-- MISMATCH jid (Idempotency-Key with another body), ACCEPTING jid (the key's job may come to
-- nothing yet), GAP last (append with a number too high), INVALID why.

local MAX_PINS = 10000 -- fields of a job's hash, files that its task sends among them
local REVISION = 24 -- raised with every change: a node loads its file over an older one
local HOSTS = 2000 -- hosts that one call may walk
local GROUP_HOSTS = 500 -- hosts walked, from which on a call makes no further job
local SPAN = 256 -- bytes of a bitmap that are written at once: the bits of 2,000 hosts and some
local MAX_ROWS = 6000 -- values that are read at once: a stack of Redis takes 8,000
local CHUNK = 500 -- names in a chunk of targets
local BATCH = 100 -- slices in one answer
local LOOKED_AT = 500 -- slices of jobs that a node has enough of, when it takes one
local STEP = 16 -- entries read at once while a page fills
local IDEM_SECONDS = 86400
local TALLIED = 1000 -- times in a tally of a host
local TALLY_SECONDS = 2592000 -- that a tally is kept after its last addition
local MEMORY_AGE = 1000000 -- microseconds for which a look at the memory holds
local TIGHT_LOOK = 16384 -- bytes of output in a call that are worth a look at the memory
-- Redis keeps up to 512 short fields as one text, in which each new one is looked for from its
-- start: 14 us a lease. One value this long makes it a table; so few hosts are not worth it.
local WIDE, NARROW = ('-'):rep(100), 64
local TOGETHER, TOGETHER_BYTES = 64, 16384 -- records in one entry of the stream, and their bytes
local MAX_EFFECT = 1048576 -- number of an effect that has one target
local OPS = 'ops' -- in place of a number of an effect: bits of effects with one target each
local ROWS = 2 ^ 34 -- rows of a target; with it an index of 2^19 targets is exact as a score
local PRIORITY = 1e12 -- one step of priority, in hosts of virtual time


local LEASES, READY, NODES, VCLOCK = 'exed:leases', 'exed:ready', 'exed:nodes', 'exed:vclock'
local JOBS, JOBS_ALL, ACCEPTING = 'exed:jobs', 'exed:jobs:all', 'exed:accepting'
local ENDED, ENDED_SYNC, REMOVING = 'exed:ended', 'exed:ended:sync', 'exed:removing'

local function fail(text)
  return redis.error_reply(text)
end

local known_texts = {} -- of small numbers: making one costs Redis as much as a field of a hash

local function whole_text(number)
  local text = known_texts[number]
  if text then return text end
  text = string.format('%.0f', number)
  if number >= 0 and number < 64 then known_texts[number] = text end
  return text
end

-- The integer in text, or nil: no sign but a leading minus, no blanks, no hex, nothing over 2^53.
local function integer(text)
  if not text or not text:find('^%-?%d+$') or #text > 17 then return nil end
  local number = tonumber(text)
  return number <= 9007199254740992 and number or nil
end

local known_counts = {} -- by text, of up to three digits

local function count(text)
  local known = known_counts[text or '']
  if known then return known end
  local number = integer(text)
  if not number or number < 0 then return nil end
  if #text <= 3 then known_counts[text] = number end
  return number
end

local function job_key(jid)
  return 'exed:job:' .. jid
end

local function slice_key(jid, k)
  return 'exed:slice:' .. jid .. ':' .. k
end

local function owned_key(node)
  return 'exed:node:' .. node .. ':slices'
end

local function bits_key(jid, n, which)
  return 'exed:job:' .. jid .. ':' .. n .. ':' .. which
end

local function chunks_key(jid)
  return 'exed:job:' .. jid .. ':targets'
end

-- The chunks first..last of the job's targets.
local function read_chunks(jid, first, last)
  local only = first == 0 and redis.call('HGET', job_key(jid), 'names')
  if only then return { only } end
  return redis.call('LRANGE', chunks_key(jid), first, last)
end

-- Whether this incarnation of the node is the one that counts.
local function is_current(node, incarnation)
  return redis.call('HGET', 'exed:node:' .. node, 'incarnation') == incarnation
end

-- ---- bits ---------------------------------------------------------------------------------------

-- Sets the bits of the indexes, which are numbers; answers for each, in their order, whether it was
-- set before. Those that lie near each other, as a slice's do, are written with the bytes that they
-- are in: an argument for each of them would cost ten times as much.
local function set_bits(key, indexes)
  local low, high, was = indexes[1], indexes[1], {}
  for _, index in ipairs(indexes) do
    if index < low then low = index elseif index > high then high = index end
  end
  local first, last = math.floor(low / 8), math.floor(high / 8)
  if last - first >= SPAN then
    for i, index in ipairs(indexes) do was[i] = redis.call('SETBIT', key, index, 1) == 1 end
    return was
  end
  local bytes = { redis.call('GETRANGE', key, first, last):byte(1, -1) }
  for at = #bytes + 1, last - first + 1 do bytes[at] = 0 end
  for i, index in ipairs(indexes) do
    local at, bit = math.floor(index / 8) - first + 1, 2 ^ (7 - index % 8)
    was[i] = bytes[at] % (2 * bit) >= bit
    if not was[i] then bytes[at] = bytes[at] + bit end
  end
  redis.call('SETRANGE', key, first, string.char(unpack(bytes)))
  return was
end

-- The bits from..to-1 as a table from index to 1, of those that are set.
local function get_bits(key, from, to)
  local first = math.floor(from / 8)
  local bytes = redis.call('GETRANGE', key, first, math.floor((to - 1) / 8))
  local set = {}
  for at = 1, #bytes do
    local byte, index = bytes:byte(at), (first + at - 1) * 8
    for bit = 7, 0, -1 do
      if byte >= 2 ^ bit then
        byte = byte - 2 ^ bit
        set[index + 7 - bit] = true
      end
    end
  end
  return set
end

-- ---- leases -------------------------------------------------------------------------------------
-- A host's value is "MODE EPOCH JID[,JID...]". A holder that has ended holds nothing, so that the
-- end of a job of any size frees its hosts at once; the values are cleaned up 2,000 hosts at a
-- time.

local function lease_parse(value)
  local mode, epoch, jids = value:match('^(%a+) (%d+) (.*)$')
  local holders = {}
  for jid in (jids or ''):gmatch('[^,]+') do holders[#holders + 1] = jid end
  return mode, epoch, holders
end

-- alive is a cache for one call: jid -> whether it may still hold a lease.
local function is_alive(alive, jid)
  if alive[jid] == nil then
    local state = redis.call('HGET', job_key(jid), 'state')
    alive[jid] = state == 'running' or state == 'accepting'
  end
  return alive[jid]
end

-- The holders other than jid that still count.
local function lease_others(alive, holders, jid)
  local others = {}
  for _, holder in ipairs(holders) do
    if holder ~= jid and is_alive(alive, holder) then others[#others + 1] = holder end
  end
  return others
end

local function lease_text(mode, epoch, jids)
  return mode .. ' ' .. epoch .. ' ' .. jids
end

-- What each host's lease would be with jid in it, appended to writes; who is in the way of which
-- host goes into conflicts.
local function lease_plan(jid, mode, epoch, names, writes, conflicts)
  local alive, clash, alone, size = {}, false, lease_text(mode, epoch, jid), #writes
  for first = 1, #names, CHUNK do
    local last = math.min(first + CHUNK - 1, #names)
    local values = redis.call('HMGET', LEASES, unpack(names, first, last))
    for i = first, last do
      local value, lease = values[i - first + 1], alone
      if value then
        local held, _, jids = lease_parse(value)
        local holders = lease_others(alive, jids, jid)
        if #holders > 0 and (mode == 'exclusive' or held == 'exclusive') then
          conflicts[names[i]], holders, clash = holders, {}, true
        end
        holders[#holders + 1] = jid
        lease = lease_text(mode, epoch, table.concat(holders, ','))
      end
      writes[size + 1], writes[size + 2] = names[i], lease
      size = size + 2
    end
  end
  return not clash
end

-- Takes the hosts' leases for jid, all or none. Answers nil, or the error reply.
local function claim(jid, mode, epoch, names)
  local writes, conflicts = {}, {}
  if not lease_plan(jid, mode, epoch, names, writes, conflicts) then
    return fail('CONFLICT ' .. cjson.encode(conflicts))
  end
  if #names > NARROW then redis.call('HSET', LEASES, names[1], WIDE) end
  for first = 1, #writes, 2 * CHUNK do
    redis.call('HSET', LEASES, unpack(writes, first, math.min(first + 2 * CHUNK - 1, #writes)))
  end
end

-- Takes jid out of the leases of these hosts. alone: the text of a lease that nobody else has.
local function unclaim(jid, alone, names)
  if #names == 0 then return end
  local values, empty, writes = redis.call('HMGET', LEASES, unpack(names)), {}, {}
  for i, name in ipairs(names) do
    local value = values[i]
    if value == alone then
      empty[#empty + 1] = name
    elseif value and value:find(jid, 1, true) then
      local mode, epoch, holders = lease_parse(value)
      local left = {}
      for _, holder in ipairs(holders) do
        if holder ~= jid then left[#left + 1] = holder end
      end
      if #left == 0 then
        empty[#empty + 1] = name
      else
        writes[#writes + 1] = name
        writes[#writes + 1] = lease_text(mode, epoch, table.concat(left, ','))
      end
    end
  end
  if #empty > 0 then redis.call('HDEL', LEASES, unpack(empty)) end
  if #writes > 0 then redis.call('HSET', LEASES, unpack(writes)) end
end

-- Frees leases of an ended job, 2,000 hosts at most; answers 1 when some are left, and how many
-- hosts it walked.
local function release_some(jid)
  local key = job_key(jid)
  local lock, epoch, released, chunks =
    unpack(redis.call('HMGET', key, 'lock', 'epoch', 'released', 'chunks'))
  released, chunks = tonumber(released or 0), tonumber(chunks or 1)
  if not lock or lock == 'none' or released >= chunks then return 0, 0 end
  local last = math.min(released + HOSTS / CHUNK, chunks) - 1
  for _, chunk in ipairs(read_chunks(jid, released, last)) do
    unclaim(jid, lease_text(lock, epoch, jid), cjson.decode(chunk))
  end
  redis.call('HSET', key, 'released', last + 1)
  return last + 1 < chunks and 1 or 0, (last + 1 - released) * CHUNK
end

-- ---- the end of a job ---------------------------------------------------------------------------

-- 0 Done or 2 Failure by the counts, and the error's text.
local function judge(jid)
  local total, records, stop, no_match, failed, unreachable =
    unpack(redis.call('HMGET', job_key(jid), 'targets', 'records', 'stop', 'c:-1', 'c:3', 'c:4'))
  if stop then return 2, stop end
  local missing = tonumber(total) - tonumber(records or 0)
  if missing > 0 then
    return 2, whole_text(missing) .. ' of ' .. total .. ' targets have no record'
  end
  local bad = tonumber(no_match or 0) + tonumber(failed or 0) + tonumber(unreachable or 0)
  if bad > 0 then
    return 2, whole_text(bad) .. ' of ' .. total .. ' targets did not return without error'
  end
  return 0, ''
end

-- Writes the final state, wakes followers, frees up to 2,000 hosts. Answers {slices left, result,
-- more, 1}.
local function finish_job(jid, now, result, text)
  local key = job_key(jid)
  local listed = redis.call('HGET', key, 'listed')
  redis.call('HSET', key, 'state', 'ended', 'phase', 'ended', 'result', result, 'error', text,
    'ended', now)
  redis.call('ZADD', listed == '1' and ENDED or ENDED_SYNC, now, jid)
  local more = release_some(jid)
  redis.call('PUBLISH', 'exed:wake:' .. jid, 'end')
  return { 0, tonumber(result), more, 1 }
end

-- ---- records ------------------------------------------------------------------------------------

local COUNTED = {
  ['-1'] = true, ['0'] = true, ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true, ['5'] = true,
}

-- Reads what write_entries needs of the job; one HMGET a call.
local function job_totals(jid)
  local last, bytes, records, effects, stop, state, max_memory, operation =
    unpack(redis.call('HMGET', job_key(jid), 'last', 'bytes', 'records', 'effects', 'stop', 'state',
      'max_memory', 'operation'))
  return {
    last = tonumber(last or 0), bytes = tonumber(bytes or 0), records = tonumber(records or 0),
    effects = tonumber(effects or 0), stop = stop, state = state,
    max_memory = tonumber(max_memory or 0), is_task = operation == 'task',
  }
end

local function parts_key(jid)
  return job_key(jid) .. ':parts'
end

-- Notes where a part of a target's output lies: a sorted set by target, "N STREAM ID" with the id
-- padded, so that one target's parts come stream by stream in their order. The first part of a
-- stream makes those of an earlier try void.
local function note_part(jid, n, index, id, entry)
  local stream, offset = entry:match('^(%d) (%d+)\n')
  if not stream then return end
  local key, prefix = parts_key(jid), n .. ' ' .. stream .. ' '
  if offset == '0' then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, index, index)) do
      if member:sub(1, #prefix) == prefix then redis.call('ZREM', key, member) end
    end
  end
  redis.call('ZADD', key, index, prefix .. string.format('%015.0f', id))
end

local function rows_key(jid)
  return job_key(jid) .. ':rows'
end

-- The place of a row among those of a task: by target, then by id. What is for all targets has the
-- index -1; an outcome, of which there is one, comes after all other rows of its target.
local function row_score(index, id)
  return whole_text(index * ROWS + id)
end

-- Notes where a row of a task lies that is shown with its target: "N R ID" a record, "N O ID" an
-- outcome, "N A ID" an announcement.
local function note_row(jid, n, kind, index, id, entry)
  local key, letter = rows_key(jid), kind == 'record' and 'R' or kind == 'outcome' and 'O' or 'A'
  if letter == 'A' and entry:find('"everywhere":true', 1, true) then index = -1 end
  local score = row_score(index, letter == 'O' and ROWS - 1 or id)
  if letter == 'O' then redis.call('ZREMRANGEBYSCORE', key, score, score) end
  redis.call('ZADD', key, score, n .. ' ' .. letter .. ' ' .. whole_text(id))
end

-- The heads and texts of an entry of the stream. Up to revision 22 each had one row, with names.
local function rows_of(entry)
  local rows = entry[2]
  return rows[1] == 'h' and { rows[2], rows[4] } or rows
end

-- Rows on their way into the stream: the command that writes them; the next one gets the id behind
-- `last`. An entry of the stream holds for each of its rows a head, "INDEX KIND N STATUS", and what
-- was given; its id is that of its last row, and those before it count down from there. It holds
-- several because a call of XADD costs as much as five of them.
local function rows_new(jid, last)
  return { 'XADD', job_key(jid) .. ':results', false, size = 3, bytes = 0, last = last }
end

local function rows_write(rows)
  if rows.size == 3 then return end
  rows[3] = whole_text(rows.last) .. '-0'
  redis.call(unpack(rows, 1, rows.size))
  rows.size, rows.bytes = 3, 0
end

-- alone: it is looked for by its id, and has an entry of the stream for itself.
local function rows_add(rows, head, text, alone)
  if alone or rows.size >= 3 + 2 * TOGETHER or rows.bytes + #text > TOGETHER_BYTES then
    rows_write(rows)
  end
  local size = rows.size + 2
  rows[size - 1], rows[size] = head, text
  rows.size, rows.bytes, rows.last = size, rows.bytes + #text, rows.last + 1
  if alone then rows_write(rows) end
end

-- Adds the entries (flat from list[first] on: index, kind, status, bytes, entry; each after its
-- effect when n is OPS) to the job's results with the next dense ids, sets done bits and brings the
-- counts up to date. Records that are done already are left out. bits: the done bits of the records
-- among them, as numbers.
local function write_entries(jid, n, list, first, totals, bits)
  local each, plain = n == OPS and 1 or 0, n == '0' and not totals.is_task
  local done = #bits > 0 and set_bits(bits_key(jid, n, 'done'), bits)
  local rows, bytes, seen, kinds = rows_new(jid, totals.last), 0, 0, {}
  for i = first + each, #list, 5 + each do
    local kind, effect, status = list[i + 1], each == 1 and list[i - 1] or n, list[i + 2]
    local is_record = kind == 'record'
    if is_record then seen = seen + 1 end
    if not is_record or not done[seen] then
      local head = list[i] .. ' ' .. kind .. ' ' .. effect .. ' ' .. status
      rows_add(rows, head, list[i + 4], not plain or not is_record)
      bytes = bytes + (count(list[i + 3]) or 0)
      if kind == 'part' or kind == 'lines' then
        note_part(jid, effect, list[i], rows.last, list[i + 4])
      elseif not plain then
        note_row(jid, effect, kind, list[i], rows.last, list[i + 4])
      end
      if is_record and n == '0' then kinds[status] = (kinds[status] or 0) + 1 end
    end
  end
  rows_write(rows)
  local added = rows.last - totals.last
  if added == 0 then return 0 end
  local key, records = job_key(jid), 0
  for status, number in pairs(kinds) do
    redis.call('HINCRBY', key, 'c:' .. status, number)
    records = records + number
  end
  totals.last, totals.bytes, totals.records = rows.last, totals.bytes + bytes,
    totals.records + records
  redis.call('HSET', key, 'last', whole_text(totals.last), 'bytes', whole_text(totals.bytes),
    'records', whole_text(totals.records))
  redis.call('PUBLISH', 'exed:wake:' .. jid, whole_text(totals.last))
  return added
end

-- Deletion needs to know how many effects have bitmaps.
local function note_effect(jid, n, totals)
  local effect = tonumber(n)
  if effect > totals.effects then redis.call('HSET', job_key(jid), 'effects', n) end
end

-- ---- slices -------------------------------------------------------------------------------------

local function slice_answer(jid, k, from, to, epoch, deaths, stop)
  return {
    jid, tonumber(k), tonumber(from), tonumber(to), tonumber(epoch), tonumber(deaths or 0),
    stop or '',
  }
end

-- Gives the slice to the node: a new epoch, and numbers of calls from 1 again. died: the last
-- owner was lost.
local function slice_give(jid, k, node, incarnation, died)
  local key = slice_key(jid, k)
  local from, to, epoch, deaths, fresh, owner =
    unpack(redis.call('HMGET', key, 'from', 'to', 'epoch', 'deaths', 'new', 'owner'))
  deaths = tonumber(deaths or 0)
  if died then deaths = fresh == '1' and 1 or deaths + 1 end
  if owner and owner ~= '' then redis.call('SREM', owned_key(owner), jid .. ':' .. k) end
  epoch = tonumber(epoch) + 1
  redis.call('HSET', key, 'owner', node, 'incarnation', incarnation, 'epoch', epoch,
    'state', 'taken', 'seq', '0', 'deaths', deaths, 'new', '0')
  redis.call('SADD', owned_key(node), jid .. ':' .. k)
  -- Who owns a slice is watched, also when it was forgotten while it was stopped.
  redis.call('SADD', NODES, node)
  return slice_answer(jid, k, from, to, epoch, deaths, redis.call('HGET', job_key(jid), 'stop'))
end

-- Members and scores that the jobs made in one call are yet to add to sorted sets: one command adds
-- them all, and most of what a small job costs are commands. hosts: how many were walked.
local function new_group()
  return { [JOBS_ALL] = {}, [JOBS] = {}, [READY] = {}, hosts = 0 }
end

local function group_add(group, key, score, member)
  local list = group[key]
  local size = #list
  list[size + 1], list[size + 2] = score, member
end

-- Makes what was gathered so; woken: the jid that idle nodes are told of.
local function group_write(group)
  for _, key in ipairs({ JOBS_ALL, JOBS, READY }) do
    local list = group[key]
    for first = 1, #list, 2 * CHUNK do
      redis.call('ZADD', key, unpack(list, first, math.min(first + 2 * CHUNK - 1, #list)))
    end
    group[key] = {}
  end
  if group.woken then redis.call('PUBLISH', 'exed:ready', group.woken) end
  group.woken = nil
end

-- Makes the slices (flat: from, to) and lets nodes take them. A slice's place is the virtual time
-- at which its last host is due: the clock (the place of the slice taken last) plus the job's
-- hosts up to there. So a small job passes the later slices of a big one, and nobody waits for
-- ever.
local function slices_make(jid, slices, priority, group)
  group.clock = group.clock or tonumber(redis.call('GET', VCLOCK) or 0)
  local hosts = 0
  for i = 1, #slices, 2 do
    local k = (i - 1) / 2
    hosts = hosts + slices[i + 1] - slices[i]
    local score = whole_text(group.clock + hosts - priority * PRIORITY)
    redis.call('HSET', slice_key(jid, k), 'from', slices[i], 'to', slices[i + 1], 'epoch', '0',
      'state', 'ready', 'score', score)
    group_add(group, READY, score, jid .. ':' .. k)
    group.woken = jid
  end
end

-- The slice, when the caller still owns it: a table, or nil and the error reply.
local function slice_own(jid, k, epoch)
  local now_epoch, state, from, to, seq, owner =
    unpack(redis.call('HMGET', slice_key(jid, k), 'epoch', 'state', 'from', 'to', 'seq', 'owner'))
  if not now_epoch then return nil, fail('GONE no slice ' .. jid .. ':' .. k) end
  if now_epoch ~= epoch then
    return nil, fail('STALE slice ' .. jid .. ':' .. k .. ' has epoch ' .. now_epoch)
  end
  return {
    state = state, from = tonumber(from), to = tonumber(to), seq = tonumber(seq or 0),
    owner = owner,
  }
end

local function slice_split(member)
  return member:match('^(.*):(%d+)$')
end

-- ---- functions: nodes ---------------------------------------------------------------------------

local function version()
  return REVISION
end

local function register(_, args)
  local node, text = args[1], args[2]
  if not node or node == '' then return fail('INVALID node') end
  redis.call('SADD', NODES, node)
  local incarnation = redis.call('HINCRBY', 'exed:node:' .. node, 'incarnation', 1)
  redis.call('HSET', 'exed:node:' .. node, 'version', text or '', 'running', '0')
  redis.call('HINCRBY', 'exed:node:' .. node, 'beat', 1)
  return incarnation
end

local function beat(_, args)
  local node, incarnation, running = args[1], args[2], args[3]
  if not is_current(node, incarnation) then return fail('STALE node ' .. node) end
  redis.call('SADD', NODES, node) -- it may have been forgotten while it was stopped
  redis.call('HSET', 'exed:node:' .. node, 'running', running or '0')
  return redis.call('HINCRBY', 'exed:node:' .. node, 'beat', 1)
end

local function nodes()
  local answer = {}
  for _, node in ipairs(redis.call('SMEMBERS', NODES)) do
    local fields = redis.call('HGETALL', 'exed:node:' .. node)
    table.insert(fields, 1, node)
    answer[#answer + 1] = fields
  end
  return answer
end

local function forget(_, args)
  local node, seen = args[1], args[2]
  if redis.call('HGET', 'exed:node:' .. node, 'beat') ~= seen then
    return fail('STALE node ' .. node .. ' has beaten')
  end
  if redis.call('SCARD', owned_key(node)) > 0 then
    return fail('RUNNING node ' .. node .. ' owns slices')
  end
  -- The counters stay, or a node of that name could come back with a number that was used before.
  redis.call('SREM', NODES, node)
  return 1
end

-- ---- functions: create --------------------------------------------------------------------------

-- The rows at args[at]: their number, then so many times width values. Answers them, flat, and
-- where the next begin; nil when they do not end before args[last + 1].
local function read_rows(args, at, width, last)
  local size = count(args[at])
  if not size or at + size * width > last or size * width > MAX_ROWS then return nil end
  return { unpack(args, at + 1, at + size * width) }, at + size * width + 1
end

-- The names in these chunks that are not NO MATCH. at: number of the first chunk.
local function runnable_names(chunks, at, no_match)
  local unknown, names = {}, {}
  for i = 1, #no_match, 2 do unknown[tonumber(no_match[i])] = true end
  for c, chunk in ipairs(chunks) do
    for i, name in ipairs(cjson.decode(chunk)) do
      if not unknown[(at + c - 1) * CHUNK + i - 1] then names[#names + 1] = name end
    end
  end
  return names
end

local function write_no_match(jid, no_match)
  local list, bits = {}, {}
  for i = 1, #no_match, 2 do
    local size = #list
    bits[#bits + 1] = count(no_match[i])
    list[size + 1], list[size + 2], list[size + 3] = no_match[i], 'record', '-1'
    list[size + 4], list[size + 5] = '0', no_match[i + 1]
  end
  if #list > 0 then write_entries(jid, '0', list, 1, job_totals(jid), bits) end
end

-- A task's targets are one slice, of which no call walks more than it names.
local function check_slices(slices, total, is_task)
  local at = 0
  for i = 1, #slices, 2 do
    local from, to = count(slices[i]), count(slices[i + 1])
    if not from or not to or from < at or to <= from or to > total
      or (to - from > HOSTS and not is_task) then
      return false
    end
    at = to
  end
  return true
end

local function check_indexes(rows, width, total)
  for i = 1, #rows, width do
    local index = count(rows[i])
    if not index or index >= total then return false end
  end
  return true
end

local memory_seen, memory_seen_at = 0, 0 -- bytes when last asked for; when `create` last asked

local function used_memory()
  memory_seen = tonumber(redis.call('INFO', 'memory'):match('used_memory:(%d+)'))
  return memory_seen
end

-- 1 when outputs have to be cut: new jobs are refused at max_memory, and it went on from there.
-- added: bytes of output that came now; a few are not worth the look.
local function is_tight(max_memory, added)
  if added < TIGHT_LOOK or max_memory == 0 then return 0 end
  return used_memory() > max_memory * 9 / 8 and 1 or 0
end

-- The memory in use: as of the last output of some length, and at most a second old unless it is
-- `most` or more. INFO costs as much as all else that create does.
local function recent_memory(now, most)
  if memory_seen >= most or math.abs(now - memory_seen_at) > MEMORY_AGE then
    memory_seen_at = now
    return used_memory()
  end
  return memory_seen
end

local remove_some -- below: an old job may have to make room

-- nil, or the error reply that says which bound is reached.
local function check_bounds(now, max_jobs, max_memory, group)
  if max_memory > 0 and recent_memory(now, max_memory) >= max_memory then
    return fail('FULL the store holds ' .. whole_text(used_memory()) .. ' bytes, and may hold '
      .. whole_text(max_memory))
  end
  group.jobs = group.jobs or redis.call('ZCARD', JOBS)
  if max_jobs == 0 or group.jobs + #group[JOBS] / 2 < max_jobs then return nil end
  group_write(group) -- so that what is taken away below is nowhere
  group.jobs = nil
  local oldest = redis.call('ZRANGE', ENDED, 0, 0)[1]
  if oldest then group.hosts = group.hosts + remove_some(oldest, HOSTS) end
  if redis.call('ZCARD', JOBS) >= max_jobs then
    return fail('FULL the store holds ' .. whole_text(max_jobs) .. ' jobs and none has ended')
  end
end

-- Adds the fields of a job that runs to a flat list.
local function add_running(fields, slices)
  local size = #fields
  fields[size + 1], fields[size + 2] = 'state', 'running'
  fields[size + 3], fields[size + 4] = 'phase', 'running'
  local count_text = whole_text(#slices / 2)
  fields[size + 5], fields[size + 6] = 'slices', count_text
  fields[size + 7], fields[size + 8] = 'slices_left', count_text
  return fields
end

-- The job, whose hash says that it runs, becomes visible and its slices can be taken; with nothing
-- to run it ends at once.
local function start_job(jid, now, slices, listed, priority, group)
  group_add(group, JOBS_ALL, now, jid)
  if listed == '1' then group_add(group, JOBS, now, jid) end
  if #slices == 0 then
    local result, text = judge(jid)
    finish_job(jid, now, result, text)
    return { 'CREATED', jid, 'ended' }
  end
  slices_make(jid, slices, priority, group)
  return { 'CREATED', jid, 'running' }
end

-- Puts the job's fields, slices, chunks and NO MATCH, from args[at] on, into h; nil when they are
-- not there.
local function read_job(h, args, at, last)
  h.fields, at = read_rows(args, at, 2, last)
  if not h.fields then return nil end
  h.slices, at = read_rows(args, at, 2, last)
  if not h.slices then return nil end
  h.chunks, at = read_rows(args, at, 1, last)
  if not h.chunks then return nil end
  h.no_match = read_rows(args, at, 2, last)
  return h.no_match
end

-- The arguments of create, args[at] to args[last]: a table, or nil and what is wrong.
local function create_head(args, at, last)
  local jid, now, node, incarnation, whole, total, lock, listed, priority, idem, hash, max_jobs,
    memory = unpack(args, at, at + 12)
  local h = {
    jid = jid, now = now, node = node, incarnation = incarnation, whole = whole == '1',
    total = count(total), lock = lock, listed = listed, priority = integer(priority), idem = idem,
    hash = hash, max_jobs = count(max_jobs), memory_text = memory, max_memory = count(memory),
    fields = false, slices = false, chunks = false, no_match = false,
  }
  if not jid or not jid:find('^[%x-]+$') then return nil, 'jid' end
  if not count(now) then return nil, 'now' end
  if not h.total or h.total == 0 then return nil, 'total' end
  if lock ~= 'none' and lock ~= 'shared' and lock ~= 'exclusive' then return nil, 'lock' end
  if not h.priority or h.priority < -10 or h.priority > 10 then return nil, 'priority' end
  if not h.max_jobs or not h.max_memory then return nil, 'bounds' end
  if not read_job(h, args, at + 13, last) then return nil, 'number of arguments' end
  if not check_slices(h.slices, h.total, false) then return nil, 'slices' end
  if not check_indexes(h.no_match, 2, h.total) then return nil, 'NO MATCH indexes' end
  if #h.chunks > HOSTS / CHUNK then return nil, 'more than 2,000 targets in one call' end
  if h.whole and #h.chunks ~= math.ceil(h.total / CHUNK) then return nil, 'chunks' end
  return h
end

-- The answer for a job or an Idempotency-Key that is there already, or nil.
local function create_again(h)
  local state = redis.call('HGET', job_key(h.jid), 'state')
  if state then return { 'CREATED', h.jid, state } end
  local known = h.idem ~= '' and redis.call('GET', 'exed:idem:' .. h.idem)
  if not known then return nil end
  local hash, jid = known:match('^(%S*) (.*)$')
  if hash ~= h.hash then return fail('MISMATCH ' .. jid) end
  state = redis.call('HGET', job_key(jid), 'state') or 'gone'
  if state == 'accepting' then
    return fail('ACCEPTING ' .. jid)
  end
  return { 'REPLAY', jid, state }
end

-- The job that create would answer again. One that is being accepted may come to nothing yet.
local function replayed(_, args)
  local known = redis.call('GET', 'exed:idem:' .. args[1])
  local hash, jid = (known or ''):match('^(%S*) (.*)$')
  if not known or hash ~= args[2] then return '' end
  if redis.call('HGET', job_key(jid), 'state') ~= 'accepting' then return jid end
  return fail('ACCEPTING ' .. jid)
end

-- The command that makes the job's hash. A field costs as much as some commands do, so what is as
-- it mostly is has none: no priority, phase, result; chunks and node only while it is accepting.
local function create_command(h, epoch)
  local command = {
    'HSET', job_key(h.jid), 'targets', whole_text(h.total), 'lock', h.lock, 'listed', h.listed,
    'max_memory', h.memory_text, unpack(h.fields)
  }
  local size = #command
  local function add(name, value)
    command[size + 1], command[size + 2] = name, value
    size = size + 2
  end
  if epoch then add('epoch', epoch) end
  if h.priority ~= 0 then add('priority', whole_text(h.priority)) end
  if h.idem ~= '' then add('idem', h.idem) end
  if #h.chunks == 1 then add('names', h.chunks[1]) end
  if not h.whole or #h.chunks > 1 then add('chunks', whole_text(#h.chunks)) end
  if h.whole then
    local slices = whole_text(#h.slices / 2)
    add('state', 'running')
    add('slices', slices)
    add('slices_left', slices)
  else
    add('state', 'accepting')
    add('phase', 'accepting')
    add('node', h.node)
    add('incarnation', h.incarnation)
  end
  return command
end

-- Makes the job of args[at] to args[last], but for what group_write does.
local function create_one(args, at, last, group)
  local h, why = create_head(args, at, last)
  if not h then return fail('INVALID ' .. why) end
  local refused = create_again(h)
    or check_bounds(tonumber(h.now), h.max_jobs, h.max_memory, group)
  if refused then return refused end
  group.hosts = group.hosts + h.total
  local owner = h.incarnation .. ' ' .. h.node
  if group.owner ~= owner and not is_current(h.node, h.incarnation) then
    return fail('STALE node ' .. h.node)
  end
  group.owner = owner
  local epoch
  if h.lock ~= 'none' then epoch = whole_text(redis.call('INCR', 'exed:epoch')) end
  if h.whole and epoch then
    refused = claim(h.jid, h.lock, epoch, runnable_names(h.chunks, 0, h.no_match))
    if refused then return refused end
  end
  redis.call(unpack(create_command(h, epoch)))
  if #h.chunks > 1 then redis.call('RPUSH', chunks_key(h.jid), unpack(h.chunks)) end
  if h.idem ~= '' then
    redis.call('SET', 'exed:idem:' .. h.idem, h.hash .. ' ' .. h.jid, 'EX', IDEM_SECONDS)
  end
  if #h.no_match > 0 then write_no_match(h.jid, h.no_match) end
  if h.whole then return start_job(h.jid, h.now, h.slices, h.listed, h.priority, group) end
  redis.call('SADD', ACCEPTING, h.jid)
  return { 'CREATED', h.jid, 'accepting' }
end

local function create(_, args)
  local group = new_group()
  local answer = create_one(args, 1, #args, group)
  group_write(group)
  return answer
end

-- Where in args each of the jobs has its number of arguments; nil when these are not all there.
local function job_places(args)
  local places, at = {}, 2
  for i = 1, count(args[1]) or 0 do
    places[i] = at
    at = at + 1 + (count(args[at]) or #args)
  end
  return #places > 0 and at == #args + 1 and places or nil
end

local function create_some(_, args)
  local places, answers, group = job_places(args), {}, new_group()
  if not places then return fail('INVALID number of arguments') end
  for i, at in ipairs(places) do
    if group.hosts >= GROUP_HOSTS then break end
    -- What one of them runs into is nothing to the others.
    local done, answer = pcall(create_one, args, at + 1, at + count(args[at]), group)
    if not done and type(answer) ~= 'table' then answer = { err = 'ERR ' .. tostring(answer) } end
    answers[i] = answer.err or answer
  end
  group_write(group)
  return answers
end

-- nil when the job is accepting, else the error reply.
local function not_accepting(jid)
  local state = redis.call('HGET', job_key(jid), 'state')
  if not state then return fail('GONE no job ' .. jid) end
  if state ~= 'accepting' then return fail('ENDED job ' .. jid .. ' is ' .. state) end
end

local function create_add(_, args)
  local jid, at = args[1], count(args[2])
  local chunks, next_at = read_rows(args, 3, 1, #args)
  local no_match = chunks and read_rows(args, next_at, 2, #args)
  if not at or not no_match or #chunks > HOSTS / CHUNK then
    return fail('INVALID arguments')
  end
  local refused = not_accepting(jid)
  if refused then return refused end
  local have, total = unpack(redis.call('HMGET', job_key(jid), 'chunks', 'targets'))
  have, total = tonumber(have), tonumber(total)
  if not check_indexes(no_match, 2, total) then return fail('INVALID NO MATCH indexes') end
  if have == at + #chunks then return have end -- sent again after a lost answer
  if have ~= at or at + #chunks > math.ceil(total / CHUNK) then
    return fail('INVALID place of chunks')
  end
  if #chunks > 0 then redis.call('RPUSH', chunks_key(jid), unpack(chunks)) end
  redis.call('HSET', job_key(jid), 'chunks', have + #chunks)
  write_no_match(jid, no_match)
  return have + #chunks
end

local function create_claim(_, args)
  local jid = table.remove(args, 1)
  if #args > HOSTS then return fail('INVALID more than 2,000 hosts') end
  local refused = not_accepting(jid)
  if refused then return refused end
  local lock, epoch = unpack(redis.call('HMGET', job_key(jid), 'lock', 'epoch'))
  if lock == 'none' then return #args end
  return claim(jid, lock, epoch, args) or #args
end

local function create_commit(_, args)
  local jid, now = args[1], args[2]
  local slices = read_rows(args, 3, 2, #args)
  local state, total, chunks, operation, listed, priority = unpack(redis.call('HMGET',
    job_key(jid), 'state', 'targets', 'chunks', 'operation', 'listed', 'priority'))
  if state == 'running' or state == 'ended' then return { 'CREATED', jid, state } end
  local refused = not_accepting(jid)
  if refused then return refused end
  local is_task = operation == 'task'
  if not count(now) or not slices or not check_slices(slices, tonumber(total), is_task) then
    return fail('INVALID slices')
  end
  if tonumber(chunks) ~= math.ceil(total / CHUNK) then return fail('INVALID chunks are missing') end
  redis.call('SREM', ACCEPTING, jid)
  redis.call('HSET', job_key(jid), unpack(add_running({}, slices)))
  local group = new_group()
  local answer = start_job(jid, now, slices, listed, tonumber(priority or 0), group)
  group_write(group)
  return answer
end

local function create_undo(_, args)
  local jid = args[1]
  local refused = not_accepting(jid)
  if refused then return refused end
  local idem = redis.call('HGET', job_key(jid), 'idem')
  if idem and idem ~= '' then redis.call('UNLINK', 'exed:idem:' .. idem) end
  redis.call('SREM', ACCEPTING, jid)
  redis.call('HSET', job_key(jid), 'state', 'removing')
  redis.call('SADD', REMOVING, jid)
  return 1
end

local function accepting()
  local answer = {}
  for _, jid in ipairs(redis.call('SMEMBERS', ACCEPTING)) do
    local node, incarnation = unpack(redis.call('HMGET', job_key(jid), 'node', 'incarnation'))
    if node then answer[#answer + 1] = { jid, node, incarnation } end
  end
  return answer
end

-- ---- functions: who runs what -------------------------------------------------------------------

local function ready()
  return {
    redis.call('ZCARD', READY), used_memory(), redis.call('ZCARD', JOBS_ALL),
    redis.call('ZCARD', ENDED) + redis.call('ZCARD', ENDED_SYNC), redis.call('SCARD', ACCEPTING),
  }
end

-- Gives the slice, whose place was `score`, if its job still runs.
local function take_one(jid, k, node, incarnation, score)
  local state, priority = unpack(redis.call('HMGET', job_key(jid), 'state', 'priority'))
  if state ~= 'running' then return nil end
  local place = score + tonumber(priority or 0) * PRIORITY
  if place > tonumber(redis.call('GET', VCLOCK) or 0) then
    redis.call('SET', VCLOCK, whole_text(place))
  end
  return slice_give(jid, k, node, incarnation, false)
end

local function take(_, args)
  local node, incarnation, max = args[1], args[2], count(args[3])
  if not max or max > BATCH then return fail('INVALID number of slices') end
  if not is_current(node, incarnation) then return fail('STALE node ' .. node) end
  local answer, skip, passed = {}, {}, 0
  for i = 4, #args do skip[args[i]] = true end
  while #answer < max and passed < LOOKED_AT do
    local rows = redis.call('ZRANGE', READY, passed, passed + BATCH - 1, 'WITHSCORES')
    if not rows[1] then break end
    for i = 1, #rows, 2 do
      local jid, k = slice_split(rows[i])
      if skip[jid] then
        passed = passed + 1
      else
        redis.call('ZREM', READY, rows[i])
        answer[#answer + 1] = take_one(jid, k, node, incarnation, tonumber(rows[i + 1]))
        if #answer == max then break end
      end
    end
  end
  return answer
end

local function reclaim(_, args)
  local node, incarnation, max = args[1], args[2], count(args[3])
  if not max or max > BATCH then return fail('INVALID number of slices') end
  if not is_current(node, incarnation) then return fail('STALE node ' .. node) end
  local answer = {}
  for _, member in ipairs(redis.call('SMEMBERS', owned_key(node))) do
    if #answer >= max then break end
    local jid, k = slice_split(member)
    local held, state = unpack(redis.call('HMGET', slice_key(jid, k), 'incarnation', 'state'))
    if state ~= 'taken' then
      redis.call('SREM', owned_key(node), member)
    elseif held ~= incarnation then
      answer[#answer + 1] = slice_give(jid, k, node, incarnation, true)
    end
  end
  return answer
end

local function owned(_, args)
  local node, max = args[1], count(args[2])
  if not max or max > 1000 then return fail('INVALID number of slices') end
  local answer = {}
  for _, member in ipairs(redis.call('SRANDMEMBER', owned_key(node), max)) do
    local jid, k = slice_split(member)
    local from, to, epoch, deaths = unpack(redis.call('HMGET', slice_key(jid, k),
      'from', 'to', 'epoch', 'deaths'))
    if from then
      local stop = redis.call('HGET', job_key(jid), 'stop')
      answer[#answer + 1] = slice_answer(jid, k, from, to, epoch, deaths, stop)
    end
  end
  return answer
end

local function take_over(_, args)
  local node, incarnation, jid, k, seen_owner, seen_epoch, seen_beat = unpack(args)
  if not is_current(node, incarnation) then return fail('STALE node ' .. node) end
  local owner, epoch, state = unpack(redis.call('HMGET', slice_key(jid, k),
    'owner', 'epoch', 'state'))
  if not epoch then return fail('GONE no slice ' .. jid .. ':' .. k) end
  if state ~= 'taken' then return fail('ENDED slice ' .. jid .. ':' .. k .. ' is ' .. state) end
  if owner ~= seen_owner or epoch ~= seen_epoch then
    return fail('STALE slice ' .. jid .. ':' .. k .. ' moved')
  end
  if redis.call('HGET', 'exed:node:' .. owner, 'beat') ~= seen_beat then
    return fail('STALE node ' .. owner .. ' lives')
  end
  return slice_give(jid, k, node, incarnation, true)
end

local function hand_back(_, args)
  local jid, k, epoch = args[1], args[2], args[3]
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  if slice.state ~= 'taken' then
    return fail('ENDED slice ' .. jid .. ':' .. k .. ' is ' .. slice.state)
  end
  local key = slice_key(jid, k)
  redis.call('SREM', owned_key(slice.owner), jid .. ':' .. k)
  redis.call('HSET', key, 'owner', '', 'state', 'ready', 'epoch', tonumber(epoch) + 1)
  redis.call('ZADD', READY, redis.call('HGET', key, 'score'), jid .. ':' .. k)
  redis.call('PUBLISH', 'exed:ready', jid)
  return 1
end

-- ---- functions: running -------------------------------------------------------------------------

local function marks(_, args)
  local jid, k, n = args[1], args[2], args[3]
  if not count(n) then return fail('INVALID effect') end
  local from, to = unpack(redis.call('HMGET', slice_key(jid, k), 'from', 'to'))
  if not from then return fail('GONE no slice ' .. jid .. ':' .. k) end
  from, to = math.max(tonumber(from), tonumber(args[4] or 0)), tonumber(args[5] or to)
  if to - from > HOSTS then return fail('INVALID more than 2,000 hosts') end
  local started = get_bits(bits_key(jid, n, 'started'), from, to)
  local done = get_bits(bits_key(jid, n, 'done'), from, to)
  -- Of an effect with one target its number may say it: then of all that is asked for here.
  local begun, over = '0', false
  if n ~= '0' and tonumber(n) <= MAX_EFFECT then
    begun = redis.call('GETBIT', bits_key(jid, OPS, 'started'), n) == 1 and '1' or '0'
    over = redis.call('GETBIT', bits_key(jid, OPS, 'done'), n) == 1
  end
  local text = {}
  for index = from, to - 1 do
    text[#text + 1] = (over or done[index]) and '2' or started[index] and '1' or begun
  end
  return { from, to, table.concat(text) }
end

local function mark_ops(_, args)
  local jid, k, epoch = unpack(args, 1, 3)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  if #args % 2 == 0 or #args > 2 * HOSTS + 3 then return fail('INVALID arguments') end
  local effects = {}
  for i = 4, #args, 2 do
    local n, index = count(args[i]), count(args[i + 1])
    if not n or n == 0 or n > MAX_EFFECT then return fail('INVALID effect ' .. args[i]) end
    if not index or index < slice.from or index >= slice.to then
      return fail('INVALID index ' .. args[i + 1])
    end
    effects[#effects + 1] = n
  end
  if slice.state ~= 'taken' or redis.call('HGET', job_key(jid), 'state') ~= 'running' then
    return fail('ENDED slice ' .. jid .. ':' .. k)
  end
  if #effects > 0 then set_bits(bits_key(jid, OPS, 'started'), effects) end
  return 1
end

local function mark(_, args)
  local jid, k, epoch, n = unpack(args, 1, 4)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  if not count(n) or #args > HOSTS + 4 then return fail('INVALID arguments') end
  local stop, effects, state = unpack(redis.call('HMGET', job_key(jid), 'stop', 'effects', 'state'))
  -- A task that is stopped still puts back what it took away; its node starts nothing else.
  if stop and n == '0' then return fail('STOPPED ' .. stop) end
  if slice.state ~= 'taken' or state ~= 'running' then
    return fail('ENDED slice ' .. jid .. ':' .. k)
  end
  local indexes = {}
  for i = 5, #args do
    local index = count(args[i])
    if not index or index < slice.from or index >= slice.to then
      return fail('INVALID index ' .. args[i])
    end
    indexes[i - 4] = index
  end
  if #indexes > 0 then set_bits(bits_key(jid, n, 'started'), indexes) end
  if n ~= '0' then note_effect(jid, n, { effects = tonumber(effects or 0) }) end
  return 1
end

local function hold(_, args)
  local jid, k, epoch = args[1], args[2], args[3]
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  local stop, state = unpack(redis.call('HMGET', job_key(jid), 'stop', 'state'))
  if slice.state ~= 'taken' or state ~= 'running' then
    return fail('ENDED slice ' .. jid .. ':' .. k)
  end
  return stop or ''
end

local KINDS = { record = true, part = true, lines = true, announce = true, outcome = true }

-- nil and the done bits of the records in append's rows, or what is wrong with these; each: 1 when
-- they begin with an effect.
local function check_entries(list, first, slice, each)
  local width, bits = 5 + (each or 0), {}
  if (#list - first + 1) % width ~= 0 or #list > HOSTS * width then return 'number of arguments' end
  for i = first, each and #list or 0, width do
    local n = count(list[i])
    if not n or n == 0 or n > MAX_EFFECT then return 'effect ' .. list[i] end
  end
  for i = first + (each or 0), #list, width do
    local index = count(list[i])
    if not index or index < slice.from or index >= slice.to then return 'index ' .. list[i] end
    local kind, status = list[i + 1], list[i + 2]
    if not KINDS[kind] then return 'kind ' .. kind end
    if kind == 'record' then
      if not COUNTED[status] then return 'status ' .. status end
      bits[#bits + 1] = each and count(list[i - 1]) or index
    end
  end
  return nil, bits
end

-- Calls of effects other than 0 are numbered for themselves: "EPOCH NUMBER" in a field of the
-- slice.
local function effect_seq(jid, k, epoch, field)
  local held = redis.call('HGET', slice_key(jid, k), field)
  local in_epoch, seq = (held or ''):match('^(%d+) (%d+)$')
  return in_epoch == epoch and tonumber(seq) or 0
end

-- ops: each row begins with its effect, and n is only what the calls are numbered by.
local function append_rows(args, ops)
  local jid, k, epoch, n, seq = unpack(args, 1, 5)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  seq = count(seq)
  if not count(n) or not seq or ops and (n == '0' or seq == 0) then
    return fail('INVALID arguments')
  end
  local field = (ops and 'ops:' or 'seq:') .. n
  if n ~= '0' then slice.seq = effect_seq(jid, k, epoch, field) end
  local totals = job_totals(jid)
  if not totals.state then return fail('GONE no job ' .. jid) end
  local before = totals.bytes
  local function answer(added)
    return {
      -- What a stopped task still puts back is not stopped.
      added, totals.last, totals.bytes, n == '0' and totals.stop or '',
      is_tight(totals.max_memory, totals.bytes - before),
    }
  end
  if seq > 0 and seq <= slice.seq then return answer(0) end
  if seq > slice.seq + 1 then return fail('GAP ' .. whole_text(slice.seq)) end
  if slice.state ~= 'taken' or totals.state ~= 'running' then
    return fail('ENDED slice ' .. jid .. ':' .. k)
  end
  local wrong, bits = check_entries(args, 6, slice, ops and 1)
  if wrong then return fail('INVALID ' .. wrong) end
  local added = write_entries(jid, ops and OPS or n, args, 6, totals, bits)
  if n ~= '0' and not ops then note_effect(jid, n, totals) end
  local highest = whole_text(math.max(seq, slice.seq))
  if n == '0' then
    redis.call('HSET', slice_key(jid, k), 'seq', highest, 'new', '1')
  elseif seq > 0 then
    redis.call('HSET', slice_key(jid, k), field, epoch .. ' ' .. highest, 'new', '1')
  end
  return answer(added)
end

local function append(_, args) return append_rows(args, false) end

local function append_ops(_, args) return append_rows(args, true) end

-- ---- functions: tasks ---------------------------------------------------------------------------

local function journal(_, args)
  local jid, k, epoch, seq, size = unpack(args, 1, 5)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  seq, size = count(seq), count(size)
  if not seq or not size or size > HOSTS then return fail('INVALID arguments') end
  local key = job_key(jid)
  local last, bytes, stop, state = unpack(redis.call('HMGET', key, 'jlast', 'jbytes', 'stop',
    'state'))
  if not state then return fail('GONE no job ' .. jid) end
  last, bytes = tonumber(last or 0), tonumber(bytes or 0)
  local seen = effect_seq(jid, k, epoch, 'jseq')
  if seq <= seen then return { last, bytes, stop or '' } end
  if seq > seen + 1 then return fail('GAP ' .. whole_text(seen)) end
  if slice.state ~= 'taken' or state ~= 'running' then
    return fail('ENDED slice ' .. jid .. ':' .. k)
  end
  local wrong, done = check_entries(args, 6 + size, slice)
  if wrong then return fail('INVALID ' .. wrong) end
  for i = 6, 5 + size do
    last, bytes = last + 1, bytes + #args[i]
    redis.call('XADD', key .. ':journal', whole_text(last) .. '-0', 'e', args[i])
  end
  redis.call('HSET', key, 'jlast', whole_text(last), 'jbytes', whole_text(bytes))
  if #args > 5 + size then write_entries(jid, '0', args, 6 + size, job_totals(jid), done) end
  redis.call('HSET', slice_key(jid, k), 'jseq', epoch .. ' ' .. whole_text(seq), 'new', '1')
  return { last, bytes, stop or '' }
end

local function journal_read(_, args)
  local jid, after, size, room = args[1], count(args[2]), count(args[3]), count(args[4])
  if not after or not size or not room then return fail('INVALID arguments') end
  local answer = { tonumber(redis.call('HGET', job_key(jid), 'jlast') or 0) }
  local rows = redis.call('XRANGE', job_key(jid) .. ':journal', '(' .. whole_text(after) .. '-0',
    '+', 'COUNT', math.min(size, HOSTS))
  for _, row in ipairs(rows) do
    answer[#answer + 1] = { tonumber(row[1]:match('^%d+')), row[2][2] }
    room = room - #row[2][2]
    if room <= 0 then break end
  end
  return answer
end

-- The entry of the record of effect n on a target, or nil. It is among the newest, mostly.
local function find_record(jid, n, index)
  local key, passed = rows_key(jid), 0
  local high, low = row_score(index, ROWS - 1), row_score(index, 0)
  repeat
    local members = redis.call('ZREVRANGEBYSCORE', key, high, low, 'LIMIT', passed, STEP)
    for _, member in ipairs(members) do
      local effect, id = member:match('^(%d+) R (%d+)$')
      if effect == n then
        return redis.call('XRANGE', job_key(jid) .. ':results', id .. '-0', id .. '-0')[1]
      end
    end
    passed = passed + #members
  until #members < STEP
end

local function effect_records(_, args)
  local jid, n = args[1], args[2]
  if not count(n) or #args > HOSTS then return fail('INVALID arguments') end
  local answer = {}
  for i = 3, #args do
    local index = count(args[i])
    local row = index and find_record(jid, n, index)
    if row then
      local head, text = unpack(rows_of(row))
      answer[#answer + 1] = index
      answer[#answer + 1] = tonumber(head:match('(-?%d+)$'))
      answer[#answer + 1] = text
    end
  end
  return answer
end

-- The id of the last row of an entry of the stream.
local function last_id(entry)
  return tonumber(entry[1]:match('^%d+'))
end

-- One row of a page.
local function page_row(id, head, text, bare)
  local index, kind, n, status = head:match('^(%d+) (%a+) (%d+) ?(.*)$')
  return {
    id, tonumber(index), kind, tonumber(n), tonumber(status) or 0,
    bare and (kind == 'part' or kind == 'lines') and '' or text,
  }
end

-- At most `size` of the rows of a target with an id above `after`: { id, letter, ... } flat, ids as
-- text. index -1: those for all targets.
local function rows_after(key, index, after, size)
  local rows = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. row_score(index, after),
    row_score(index, ROWS - 1), 'LIMIT', 0, size)) do
    local letter, id = member:match(' (%a) (%d+)$')
    rows[#rows + 1], rows[#rows + 2] = id, letter
  end
  return rows
end

-- The ids of a target's own rows and of those for all, in their order; an outcome is the last.
local function merge_rows(own, all, size)
  local ids, i, k = {}, 1, 1
  while #ids < size and (own[i] or all[k]) do
    local first = own[i] and own[i + 1] ~= 'O' and tonumber(own[i])
    if all[k] and not (first and first < tonumber(all[k])) then
      ids[#ids + 1], k = all[k], k + 2
    else
      ids[#ids + 1], i = own[i], i + 2
    end
  end
  return ids
end

local function grouped(_, args)
  local jid, from, to, after = args[1], count(args[2]), count(args[3]), count(args[4])
  local size, room = count(args[5]), count(args[6])
  if not from or not to or not after or not size or not room then
    return fail('INVALID arguments')
  end
  local key, answer, last = rows_key(jid), { from }, math.min(to, from + HOSTS)
  local all, every = rows_after(key, -1, after, size), nil
  for index = from, last - 1 do
    if index > from then
      every = every or after == 0 and all or rows_after(key, -1, 0, size)
      after, all = 0, every
    end
    local left = size - #answer + 1
    local ids = merge_rows(rows_after(key, index, after, left + 1), all, left + 1)
    for _, id in ipairs(ids) do
      answer[1] = index
      if #answer > size or room <= 0 then return answer end
      local row = redis.call('XRANGE', job_key(jid) .. ':results', id .. '-0', id .. '-0')[1]
      if row then
        local head, text = unpack(rows_of(row))
        answer[#answer + 1] = page_row(last_id(row), head, text, false)
        answer[#answer][2] = index
        room = room - #answer[#answer][6] - 64
      end
    end
  end
  answer[1] = last
  return answer
end

local function set_waiting(_, args)
  local jid, k, epoch, text = unpack(args, 1, 4)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  local state = redis.call('HGET', job_key(jid), 'state')
  if state ~= 'running' then return fail('ENDED job ' .. jid) end
  redis.call('HSET', job_key(jid), 'waiting', text or '')
  -- Nobody dies of waiting: such a task is not poisoned.
  redis.call('HSET', slice_key(jid, k), 'new', '1')
  return 1
end

-- A paused task gets another source. Its slice is to be taken anew, so that who runs it now, with
-- the former source, writes nothing more.
local function repin(_, args)
  local jid, last, pins, request = unpack(args, 1, 4)
  local key = job_key(jid)
  local state, operation, stop, paused, jlast = unpack(redis.call('HMGET', key, 'state',
    'operation', 'stop', 'paused', 'jlast'))
  if not request or not count(last) then return fail('INVALID arguments') end
  if state ~= 'running' and state ~= 'ended' then return fail('GONE no job ' .. jid) end
  if state == 'ended' then return fail('ENDED job ' .. jid .. ' is ' .. state) end
  if operation ~= 'task' then return fail('INVALID it is no task') end
  if stop then return fail('STOPPED it is stopped: ' .. stop) end
  if paused ~= '1' then return fail('STOPPED it is not paused') end
  if last ~= (jlast or '0') then return fail('MOVED its journal is at ' .. jlast) end
  local slice = redis.call('HMGET', slice_key(jid, 0), 'state', 'owner', 'epoch', 'score')
  redis.call('HSET', key, 'pins', pins, 'request', request)
  redis.call('HDEL', key, 'paused')
  if slice[1] == 'taken' then
    redis.call('SREM', owned_key(slice[2]), jid .. ':0')
    redis.call('HSET', slice_key(jid, 0), 'owner', '', 'state', 'ready', 'epoch', slice[3] + 1)
    redis.call('ZADD', READY, slice[4], jid .. ':0')
  end
  redis.call('PUBLISH', 'exed:control', 'resume ' .. jid)
  redis.call('PUBLISH', 'exed:ready', jid)
  return 1
end

local function ask_task(_, args)
  local jid, verb, text = unpack(args, 1, 3)
  local key = job_key(jid)
  local state, waiting, stop = unpack(redis.call('HMGET', key, 'state', 'waiting', 'stop'))
  if state ~= 'running' and state ~= 'ended' then return fail('GONE no job ' .. jid) end
  if state == 'ended' then return fail('ENDED job ' .. jid .. ' is ' .. state) end
  if stop and verb ~= 'resume' then return fail('STOPPED it is stopped: ' .. stop) end
  if verb == 'approve' then
    local n = (waiting or ''):match('^{"n":(%d+)')
    if not n or n ~= args[4] then return fail('STOPPED it does not wait for this answer') end
    if redis.call('HSETNX', key, 'approval:' .. n, text) == 0 then
      return fail('STOPPED it has its answer already')
    end
  elseif verb == 'pause' then
    redis.call('HSET', key, 'paused', '1')
  elseif verb == 'resume' then
    redis.call('HDEL', key, 'paused')
  else
    return fail('INVALID verb')
  end
  redis.call('PUBLISH', 'exed:control', verb .. ' ' .. jid)
  return { verb }
end

-- What nodes ask one another is not kept.
local function ask(_, args)
  return redis.call('PUBLISH', 'exed:ask', table.concat(args, ' ', 1, 3))
end

local function tell(_, args)
  redis.call('PUBLISH', 'exed:told:' .. args[1], args[2])
  return 1
end

-- The newest times of a tally, by what added them; all are forgotten when none is added for long.
local function tally(_, args)
  local jid, k, epoch, now, host, name, change, seconds, n = unpack(args, 1, 9)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  now, seconds = count(now), count(seconds)
  if not now or not seconds or not count(n) or not name:find('^[%w_.-]+$') then
    return fail('INVALID arguments')
  end
  local key = 'exed:tally:' .. name .. ':' .. host
  if change == 'add' then
    redis.call('ZADD', key, 'NX', whole_text(now), jid .. '.' .. n)
    redis.call('ZREMRANGEBYRANK', key, 0, -TALLIED - 1)
    redis.call('EXPIRE', key, TALLY_SECONDS)
  elseif change == 'clear' then
    redis.call('DEL', key)
  elseif change ~= 'look' then
    return fail('INVALID change')
  end
  return redis.call('ZCOUNT', key, whole_text(now - seconds * 1000000), '+inf')
end

local function source_put(_, args)
  local seconds = count(args[3])
  if not args[1]:find('^%x+$') or not seconds then return fail('INVALID arguments') end
  redis.call('SET', 'exed:src:' .. args[1], args[2], 'EX', seconds)
  return 1
end

local function source_keep(_, args)
  local seconds = count(args[2])
  if not args[1]:find('^%x+$') or not seconds then return fail('INVALID arguments') end
  return redis.call('EXPIRE', 'exed:src:' .. args[1], seconds)
end

-- The first value of a name counts.
local function pin(_, args)
  local key = job_key(args[1])
  if redis.call('EXISTS', key) == 0 then return fail('GONE') end
  if not args[3]:find('^%x+$') then return fail('INVALID arguments') end
  if redis.call('HLEN', key) >= MAX_PINS then return fail('FULL too many files of one job') end
  redis.call('HSETNX', key, args[2], args[3])
  return redis.call('HGET', key, args[2])
end

local function source_get(_, args)
  return redis.call('GET', 'exed:src:' .. args[1]) or ''
end

-- ---- functions: ending --------------------------------------------------------------------------

-- Takes the slice out of play; answers how many of the job's are left.
local function slice_close(jid, k, owner)
  redis.call('HSET', slice_key(jid, k), 'state', 'ended')
  redis.call('SREM', owned_key(owner), jid .. ':' .. k)
  return redis.call('HINCRBY', job_key(jid), 'slices_left', -1)
end

local function slice_end(_, args)
  local jid, k, epoch, now = args[1], args[2], args[3], args[4]
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  if not count(now) then return fail('INVALID now') end
  local state, left, result = unpack(redis.call('HMGET', job_key(jid),
    'state', 'slices_left', 'result'))
  if slice.state == 'ended' then return { tonumber(left), tonumber(result or 1), 0 } end
  left = slice_close(jid, k, slice.owner)
  if left > 0 or state ~= 'running' then return { left, tonumber(result or 1), 0 } end
  return finish_job(jid, now, judge(jid))
end

local function finish(_, args)
  local jid, k, epoch, now, result, text, value = unpack(args, 1, 7)
  local slice, refused = slice_own(jid, k, epoch)
  if not slice then return refused end
  if not count(now) or (result ~= '0' and result ~= '2') then return fail('INVALID arguments') end
  local state, was = unpack(redis.call('HMGET', job_key(jid), 'state', 'result'))
  if slice.state ~= 'ended' then slice_close(jid, k, slice.owner) end
  if state ~= 'running' then return { 0, tonumber(was or 1), 0 } end
  if value and value ~= '' then redis.call('HSET', job_key(jid), 'value', value) end
  return finish_job(jid, now, result, text or '')
end

-- The job's slices that nobody has taken go to the node that asks, so that it can write what
-- became of their hosts: the job ends even when no worker lives.
local function cancel(_, args)
  local jid, now, reason, node, incarnation = unpack(args, 1, 5)
  if not reason or reason == '' or not count(now) then return fail('INVALID arguments') end
  local state, slices, stop = unpack(redis.call('HMGET', job_key(jid), 'state', 'slices', 'stop'))
  if not state then return fail('GONE no job ' .. jid) end
  if state ~= 'running' then return fail('ENDED job ' .. jid .. ' is ' .. state) end
  if not is_current(node, incarnation) then return fail('STALE node ' .. node) end
  if not stop then
    redis.call('HSET', job_key(jid), 'stop', reason, 'stopped', now, 'phase', 'stopping')
    redis.call('PUBLISH', 'exed:control', 'cancel ' .. jid)
  end
  local answer = { 'stopping' }
  for k = 0, tonumber(slices) - 1 do
    if #answer > BATCH then break end
    if redis.call('ZREM', READY, jid .. ':' .. k) == 1 then
      answer[#answer + 1] = slice_give(jid, whole_text(k), node, incarnation, false)
    end
  end
  return answer
end

-- ---- functions: keeping and reading -------------------------------------------------------------

local function release(_, args)
  local state = redis.call('HGET', job_key(args[1]), 'state')
  if not state then return 0 end
  if state ~= 'ended' then return fail('RUNNING job ' .. args[1]) end
  return (release_some(args[1]))
end

-- Unlinks the slices and bitmaps from number `gone` on, at most budget of them; answers how many
-- it did.
local function unlink_some(jid, gone, all, slices, budget)
  local keys, last = {}, math.min(gone + budget, all) - 1
  for i = gone, last do
    if i < slices then
      keys[#keys + 1] = slice_key(jid, i)
    else
      local n = whole_text(math.floor((i - slices) / 2))
      keys[#keys + 1] = bits_key(jid, n, (i - slices) % 2 == 0 and 'started' or 'done')
    end
    if #keys == CHUNK or i == last then
      redis.call('UNLINK', unpack(keys))
      keys = {}
    end
  end
  return last + 1 - gone
end

-- Takes a part of an ended job away; answers what it cost, and whether it is all gone.
remove_some = function(jid, budget)
  local key = job_key(jid)
  redis.call('ZREM', JOBS, jid)
  redis.call('ZREM', JOBS_ALL, jid)
  redis.call('ZREM', ENDED, jid)
  redis.call('ZREM', ENDED_SYNC, jid)
  redis.call('SADD', REMOVING, jid)
  redis.call('HSET', key, 'state', 'removing')
  local more, cost = release_some(jid)
  if more == 1 or cost >= budget then return cost, false end
  local slices, effects, gone = unpack(redis.call('HMGET', key, 'slices', 'effects', 'gone'))
  slices, gone = tonumber(slices or 0), tonumber(gone or 0)
  local all = slices + 2 * (tonumber(effects or 0) + 1)
  local done = unlink_some(jid, gone, all, slices, budget - cost)
  if gone + done < all then
    redis.call('HSET', key, 'gone', gone + done)
    return cost + done, false
  end
  redis.call('UNLINK', key, chunks_key(jid), key .. ':results', key .. ':journal', parts_key(jid),
    rows_key(jid), bits_key(jid, OPS, 'started'), bits_key(jid, OPS, 'done'))
  redis.call('SREM', REMOVING, jid)
  return cost + done + 1, true
end

local function remove(_, args)
  local jid = args[1]
  local state = redis.call('HGET', job_key(jid), 'state')
  if not state then return fail('GONE no job ' .. jid) end
  if state ~= 'ended' and state ~= 'removing' then return fail('RUNNING job ' .. jid) end
  local _, all = remove_some(jid, HOSTS)
  return all and 0 or 1
end

-- A job that is being taken away, or not yet accepted, is not there.
local function get(_, args)
  local fields = redis.call('HGETALL', job_key(args[1]))
  for i = 1, #fields, 2 do
    if fields[i] == 'state' and (fields[i + 1] == 'running' or fields[i + 1] == 'ended') then
      return fields
    end
  end
  return fail('GONE no job ' .. args[1])
end

local function list(_, args)
  local which, from, size = args[1], count(args[2]), count(args[3])
  if (which ~= 'listed' and which ~= 'all') or not from or not size or size > 10000 then
    return fail('INVALID arguments')
  end
  if size == 0 then return {} end
  return redis.call('ZRANGE', which == 'all' and JOBS_ALL or JOBS, from, from + size - 1)
end

local function targets(_, args)
  local first, last = count(args[2]), count(args[3])
  if not first or not last or last - first >= HOSTS / CHUNK then return fail('INVALID chunks') end
  return read_chunks(args[1], first, last)
end

local function page(_, args)
  local jid, after, size, room = args[1], count(args[2]), count(args[3]), count(args[4])
  local bare = args[5] == '1'
  if not after or not size or not room then return fail('INVALID arguments') end
  local state, last = unpack(redis.call('HMGET', job_key(jid), 'state', 'last'))
  if state ~= 'running' and state ~= 'ended' then return fail('GONE no job ' .. jid) end
  local answer = { state, tonumber(last or 0) }
  while size > 0 and room > 0 do
    local entries = redis.call('XRANGE', job_key(jid) .. ':results',
      '(' .. whole_text(after) .. '-0', '+', 'COUNT', math.min(size, STEP))
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do
      local rows, last_of = rows_of(entry), last_id(entry)
      for i = 1, #rows, 2 do
        local id = last_of - (#rows - 1 - i) / 2
        if id > after and size > 0 and room > 0 then
          local row = page_row(id, rows[i], rows[i + 1], bare)
          answer[#answer + 1] = row
          after, size, room = id, size - 1, room - #row[6] - 64
        end
      end
    end
  end
  return answer
end

local function parts(_, args)
  local jid, n, index = args[1], args[2], count(args[3])
  if not count(n) or not index then return fail('INVALID arguments') end
  local answer = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', parts_key(jid), index, index)) do
    local effect, stream, id = member:match('^(%d+) (%d) (%d+)$')
    if effect == n then
      answer[#answer + 1] = tonumber(id)
      answer[#answer + 1] = tonumber(stream)
    end
  end
  return answer
end

local function entry(_, args)
  local id = count(args[2])
  if not id then return fail('INVALID arguments') end
  local place = whole_text(id) .. '-0'
  local found = redis.call('XRANGE', job_key(args[1]) .. ':results', place, place)[1]
  return found and rows_of(found)[2] or fail('GONE no entry ' .. args[2] .. ' of job ' .. args[1])
end

local function leases(_, args)
  local cursor, size = args[1], count(args[2])
  if not count(cursor) or not size or size > HOSTS then return fail('INVALID arguments') end
  local found = redis.call('HSCAN', LEASES, cursor, 'COUNT', size)
  local answer, alive = { found[1] }, {}
  for i = 1, #found[2], 2 do
    local mode, epoch, holders = lease_parse(found[2][i + 1])
    holders = lease_others(alive, holders, '')
    if #holders > 0 then
      local at = #answer
      answer[at + 1], answer[at + 2], answer[at + 3], answer[at + 4] =
        found[2][i], mode, tonumber(epoch), table.concat(holders, ',')
    end
  end
  return answer
end

-- The jobs to take away next, oldest first, a few at a time.
local function sweep_candidates(now, ttl, sync_keep, sync_age, max_jobs)
  local due = redis.call('SRANDMEMBER', REMOVING, STEP)
  local function add(jids)
    for _, jid in ipairs(jids) do due[#due + 1] = jid end
  end
  add(redis.call('ZRANGEBYSCORE', ENDED, '-inf', whole_text(now - ttl), 'LIMIT', 0, STEP))
  add(redis.call('ZRANGEBYSCORE', ENDED_SYNC, '-inf', whole_text(now - sync_age), 'LIMIT', 0, STEP))
  local over = redis.call('ZCARD', ENDED_SYNC) - sync_keep
  if over > 0 then add(redis.call('ZRANGE', ENDED_SYNC, 0, math.min(over, STEP) - 1)) end
  over = redis.call('ZCARD', JOBS) - max_jobs
  if over > 0 then add(redis.call('ZRANGE', ENDED, 0, math.min(over, STEP) - 1)) end
  return due
end

local function sweep(_, args)
  local now, ttl, sync_keep, sync_age, max_jobs =
    count(args[1]), count(args[2]), count(args[3]), count(args[4]), count(args[5])
  if not (now and ttl and sync_keep and sync_age and max_jobs) then
    return fail('INVALID arguments')
  end
  local budget, removed, seen = HOSTS, 0, {}
  local due = sweep_candidates(now, ttl, sync_keep, sync_age, max_jobs)
  for _, jid in ipairs(due) do
    if budget <= 0 then break end
    if not seen[jid] then
      seen[jid] = true
      local cost, all = remove_some(jid, budget)
      budget, removed = budget - math.max(cost, 1), removed + (all and 1 or 0)
    end
  end
  return { removed, #due > 0 and 1 or 0 }
end

-- ---- registration -------------------------------------------------------------------------------
-- WRITES carry allow-oom: what marks, ends, releases or removes works in a full Redis too, or a
-- full store could end nothing. While a library is loaded there is no redis.call and no standard
-- library.

local WRITES, GROWS, READS = { 'allow-oom' }, {}, { 'no-writes' }

local function publish(flags, rows)
  for i = 1, #rows, 2 do
    redis.register_function({
      function_name = 'exed_1_' .. rows[i], callback = rows[i + 1], flags = flags,
    })
  end
end

publish(GROWS, {
  'create', create, 'create_some', create_some, 'create_add', create_add,
  'create_claim', create_claim, 'source_put', source_put, 'pin', pin,
})
publish(WRITES, {
  'register', register, 'beat', beat, 'forget', forget,
  'create_commit', create_commit, 'create_undo', create_undo,
  'take', take, 'reclaim', reclaim, 'take_over', take_over, 'hand_back', hand_back,
  'hold', hold, 'mark', mark, 'mark_ops', mark_ops, 'append', append, 'append_ops', append_ops,
  'slice_end', slice_end, 'finish', finish,
  'cancel', cancel,
  'release', release, 'remove', remove, 'sweep', sweep,
  'journal', journal, 'waiting', set_waiting, 'ask_task', ask_task,
  'ask', ask, 'tell', tell, 'repin', repin,
  'tally', tally, 'source_keep', source_keep,
})
publish(READS, {
  'version', version, 'nodes', nodes, 'accepting', accepting, 'ready', ready, 'owned', owned,
  'marks', marks, 'get', get, 'list', list, 'targets', targets, 'page', page, 'parts', parts,
  'entry', entry, 'leases', leases, 'journal_read', journal_read, 'found', effect_records,
  'source_get', source_get, 'grouped', grouped, 'replayed', replayed,
})
