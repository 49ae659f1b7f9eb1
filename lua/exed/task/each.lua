-- SPDX-License-Identifier: MIT
-- each.window and each.batch: many hosts, a few at a time, stopping in time.

local fail = require "exed.task.fail"
local hosts = require "exed.task.hosts"
local order = require "exed.task.order"
local walk = require "exed.task.walk"

-- ---- window -------------------------------------------------------------------------------------

-- What a body's end makes of its host.
local function judge(rt, context, host, ok, err)
  if not ok then
    local failure = fail.from(err)
    local record = failure.host == host and failure.record
    return record and record.status == "UNREACHABLE" and "UNREACHABLE" or "FAILED", failure.message
  end
  if context.recorded then
    local said = rt.outcomes[host]
    return said.status, said.text
  end
  return context.changed and "CHANGED" or "OK"
end

-- Runs the body of one host, puts back what it deferred, and keeps its place for `settle`.
local function run_body(w, context, host, fn)
  local rt = w.rt
  local ok, err = rt:scoped(fn, host)
  local status, text = judge(rt, context, host, ok, err)
  if not (ok and context.recorded) then rt:outcome({ host }, status, text) end
  w:ended(host, status, text)
  if w:left() and not w:why_stop() then pcall(rt.sleep, rt, w.options.settle) end
end

local function start(w, host, fn)
  local domain = w.options.domain and order.domain(host, w.options.domain)
  w.running = w.running + 1
  if domain then w.busy[domain] = (w.busy[domain] or 0) + 1 end
  w.rt:spawn(w.path .. "/" .. host.name, host, function(context)
    run_body(w, context, host, fn)
    w.running = w.running - 1
    if domain then w.busy[domain] = w.busy[domain] - 1 end
    w.event:notify()
  end)
end

-- Whether another host may be started now.
local function has_place(w)
  if w:why_stop() or not w:left() or w.running >= w.size then return false end
  if w.options.strict and w.failed + w.running > w.max_failed then return false end
  if w:past_canary() and not w.through then
    if w.running > 0 then return false end
    w.through = true
    w:pass_gate()
    return not w:why_stop()
  end
  return true
end

local function window(rt, set, options, fn)
  if type(fn) ~= "function" then
    fail.usage("each.window wants a function as its third argument, got %s", type(fn))
  end
  local context = rt:context()
  local w = walk.new(rt, set, options, "each.window")
  context.windows = context.windows + 1
  w.path = ("%s/%d"):format(context.path, context.windows)
  w.running, w.busy, w.event = 0, {}, rt.backend.event()
  repeat
    while has_place(w) do
      local host = w:take(w.busy)
      if not host then break end
      start(w, host, fn)
    end
    if w.running > 0 then w.event:wait() end
  until w.running == 0 and (w:why_stop() or not w:left())
  w:why_stop()
  return w:check(w:finish())
end

-- ---- batch --------------------------------------------------------------------------------------

-- Drops the hosts of a batch that failed in an operation on it.
local function drop_failed(w, batch, results)
  local lost = {}
  for _, record in ipairs(results) do
    if record.failed then lost[record.host] = record end
  end
  local kept = {}
  for _, host in ipairs(batch) do
    local record = lost[host]
    if record then
      w.rt:outcome({ host }, record.status, record.error)
      w:ended(host, record.status, record.error)
    else
      kept[#kept + 1] = host
    end
  end
  for i = 1, #batch do batch[i] = kept[i] end
end

local function make_batch(w, list)
  return hosts.set(list, w.world, function(results) drop_failed(w, list, results) end)
end

-- What became of the hosts that are still in the batch at its end.
local function judge_batch(w)
  local rt = w.rt
  for _, host in ipairs(w.batch) do
    local said = w.said[host] ~= rt.outcomes[host] and rt.outcomes[host]
    if said then
      w:ended(host, said.status, said.text)
    else
      local status = (rt.changed[host] or 0) > w.changed[host] and "CHANGED" or "OK"
      rt:outcome({ host }, status)
      w:ended(host, status)
    end
  end
end

-- Ends the batch that runs: what it deferred is put back. ok: false when its loop was left.
local function end_batch(w, ok)
  if not w.batch then return end
  local problems = w.rt:run_deferred(w.rt:context().scope)
  w.rt:context().scope = w.outer
  if ok and not w.rt.over then judge_batch(w) end
  w.batch = nil
  if #problems > 0 then
    error(fail.new("failed", "putting back failed: " .. table.concat(problems, "; ")), 0)
  end
end

-- How many hosts the next batch may have.
local function batch_size(w)
  local size = w.size
  if not w:past_canary() then size = math.min(size, w.canary - w.started) end
  if w.options.strict then size = math.min(size, w.max_failed + 1 - w.failed) end
  return size
end

local function next_batch(w)
  if w.batch then
    end_batch(w, true)
    if w:left() and not w:why_stop() then w.rt:sleep(w.options.settle) end
  end
  if w:left() and w:past_canary() and not w:why_stop() then w:pass_gate() end
  if w:why_stop() or not w:left() then
    w.done = true
    w:check(w:finish())
    return nil
  end
  local list, busy, var = {}, {}, w.options.domain
  for _ = 1, batch_size(w) do
    local host = w:take(busy)
    if not host then break end
    list[#list + 1] = host
    if var then busy[order.domain(host, var)] = (busy[order.domain(host, var)] or 0) + 1 end
  end
  w.said, w.changed = {}, {}
  for _, host in ipairs(list) do
    w.said[host], w.changed[host] = w.rt.outcomes[host], w.rt.changed[host] or 0
  end
  w.batch, w.outer = make_batch(w, list), w.rt:context().scope
  w.rt:context().scope = {}
  return w.batch
end

-- for batch in each.batch(hosts, options) do. What the loop's body defers is put back at the end of
-- each batch, also when the loop is left by break, return or an error.
local function batch(rt, set, options)
  local w = walk.new(rt, set, options, "each.batch")
  local closing = setmetatable({}, { __close = function(_, err)
    if w.batch then end_batch(w, err == nil) end
  end })
  return function() return next_batch(w) end, nil, nil, closing
end

-- The module for one runtime.
return function(rt)
  return {
    window = function(set, options, fn) return window(rt, set, options, fn) end,
    batch = function(set, options) return batch(rt, set, options) end,
  }
end
