-- SPDX-License-Identifier: MIT
-- Runs one operation on targets that this node owns: sorts them by what is to become of each (run,
-- settle, skip, refuse) and hands each group to a fan-out. For slices of operations and for the
-- effects of tasks.

local ansible_run = require "exed.ansible.run"
local config = require "exed.config"
local fanout = require "exed.fanout"
local own = require "exed.plan.own"
local process_run = require "exed.process.run"
local reach = require "exed.reach"
local sink = require "exed.sink"
local timer = require "exed.timer"

local targets = {}

local FAILED <const> = 3

-- mine: what the target has of its own, or nil.
local function add(group, handle, index, mine)
  local n = #group.hosts + 1
  group.hosts[n], group.indexes[n] = handle, index
  if mine then group.own = group.own or {} end
  if group.own then group.own[n] = mine or false end
end

-- Kinds of which the command itself runs, and what becomes of them where it cannot be made.
local WITHOUT <const> = {
  run = "lacking", here = "lacking", settle = "look", settle_here = "look_here",
}

-- What a target of that kind has of its own, and the kind. Where it lacks something: nil, another
-- kind (lacking: FAILED), and the reason.
local function own_of(asks, kind, host)
  local instead = asks and WITHOUT[kind]
  if not instead then return nil, kind end
  local mine, why = asks:of(host)
  if mine then return mine, kind end
  return nil, instead, instead == "lacking" and why or nil
end

-- The group of a target that a lost node had started: with a fence on the host it is settled there,
-- else we look what is left of it; lost: there is nobody to ask.
local function lost_kind_of(host, fenced)
  if not host or host.problem then return "lost" end
  local kind = fenced and "settle" or "look"
  return host.connection == "local" and kind .. "_here" or kind
end

-- What is to become of a target: nil when it is done, else the name of a group: run, here (by a
-- local process), one of lost_kind_of (it is not known how it ended), skip (the job was stopped),
-- gone (not in the inventory any more), odd (a connection that we do not know), other (so is its
-- way to become another user), orphan (it is not known how it ended; it was one of many hosts of a
-- process that is gone); or of a table of groups by reason, and the reason: off (out of
-- service), halted (so, and it is not known how it ended), astray (the inventory does not say how
-- it is reached). Of the ansible executor, and of plans with one process, all
-- that run are one group, whole, however they are reached.
local function kind_of(work, host, mark, repeatable, fenced)
  if mark == "2" then return nil end
  local disabled = host and reach.disabled(host)
  if mark == "1" and not repeatable then
    if disabled then return "halted", disabled end
    if work.whole == process_run then return "orphan" end
    return lost_kind_of(host, fenced)
  end
  if work.stop then return "skip" end
  if work.lack then return "lacking", work.lack end
  if not host then return "gone" end
  if disabled then return "off", disabled end
  if work.whole == process_run then return "whole" end
  if work.whole then
    if host.problem then return "astray", host.problem end
    return "whole"
  end
  if host.become_other and not repeatable then return "other" end
  if host.problem then return "astray", host.problem end
  if host.connection == "local" then return "here" end
  return host.connection == "ssh" and "run" or "odd"
end

-- The targets by kind, each as lists of handles and indexes. Waits when there is much to ask for.
local function sort_targets(node, work, repeatable, made)
  local groups, fenced, asks = {}, made.fence, own.new(made, config)
  local inventory, marks = node.holder.inventory, work.marks
  for i, name in ipairs(work.names) do
    local host = inventory.by_name[name]
    local kind, reason = kind_of(work, host, marks and marks:sub(i, i), repeatable, fenced)
    if kind then
      local mine, what, lacks = own_of(asks, kind, host)
      local among, key = groups, what
      kind, reason = what, reason or lacks
      if reason then
        groups[kind] = groups[kind] or {}
        among, key = groups[kind], reason
      end
      among[key] = among[key] or { hosts = {}, indexes = {} }
      local handle = host and reach.handle(inventory, host) or reach.stranger(name)
      local group = among[key]
      add(group, handle, work.indexes and work.indexes[i] or work.from + i - 1, mine)
      group.found = group.found or {}
      group.found[#group.hosts] = host
    end
  end
  return groups
end

-- Where a fan-out's records go. Calls of one work are numbered, so its fan-outs share one sink;
-- those of records only need no numbers.
local function sink_of(node, work, options)
  if options.marks == nil then
    return sink.new(node.conn, {
      jid = work.jid, k = work.k, epoch = work.epoch, effect = work.effect,
      job_output = config.store.job_output, unnumbered = true, name = work.name,
    })
  end
  work.sink = work.sink or sink.new(node.conn, {
    jid = work.jid, k = work.k, epoch = work.epoch, effect = work.effect,
    job_output = config.store.job_output, marks = options.marks, name = work.name,
  })
  return work.sink
end

-- Runs one fan-out to its end.
local function run_group(node, work, group, made, options)
  if not group then return true end
  local run, err
  if options.whole then
    run = work.whole.start(node, work, made, group, not options.marks)
  else
    run, err = fanout.start(made, group.hosts, group.indexes, sink_of(node, work, options),
      group.own)
  end
  if not run then return nil, err end
  -- What runs behind a fence, or is only being looked for, the next owner can go on with.
  work.run, work.begun, work.lasts = run, true, made.fence or made.settles
  if options.skip then run:cancel(options.skip) end
  -- It may have been stopped while another group ran.
  if work.stop and options.marks ~= nil and not made.settles then run:cancel(work.stop) end
  if work.paused then run:pause(true) end
  if options.refuse then run:refuse(options.refuse, options.status) end
  if node.runner.draining then run:drain() end
  local unstarted
  unstarted, err = run:wait()
  work.run = nil
  if not unstarted then return nil, err end
  if unstarted > 0 then return nil, { code = "closed", message = "the node ends" } end
  return true
end

local function with(made, changes)
  local copy = {}
  for name, value in pairs(made) do copy[name] = value end
  for name, value in pairs(changes) do copy[name] = value end
  return copy
end

local LOOK <const> = {
  command = ":", look = true, lines = false, facts = false, json = false, settles = true,
  fence = false,
}
-- The fan-outs, one after another: who, plan, options.
local function steps(work, groups, made, repeatable)
  -- One effect of a task on one host, mostly: no more is made for it than it needs.
  if groups.run and next(groups) == "run" and next(groups, "run") == nil then
    return { { groups.run, made, { marks = not repeatable } } }
  end
  local look = with(made, LOOK)
  look.stdin, look.env, look.cwd = nil, nil, nil
  local marked = { marks = not repeatable }
  look.forbid = work.stop
  local settle = with(made, { settles = true, forbid = work.stop })
  local list = {
    { groups.gone, made, { refuse = "not in the inventory any more" } },
    { groups.odd, made, { refuse = "its ansible_connection is not known here" } },
    { groups.other, made, { refuse = "ansible_become is done by sudo, over ssh, only" } },
    { groups.skip, made, { skip = work.stop } },
    { groups.lost, look, { refuse = "node lost while running, not in the inventory any more" } },
    { groups.orphan, look, { refuse = "node lost while running" } },
    { groups.whole, made, { marks = marked.marks, whole = true } },
    { groups.here, with(made, { transport = "local" }), marked },
    { groups.run, made, marked },
    -- Last: what still runs is waited for, and nobody else should wait for that.
    { groups.settle_here, with(settle, { transport = "local" }), marked },
    { groups.settle, settle, marked },
    { groups.look_here, with(look, { transport = "local" }), {} },
    { groups.look, look, {} },
  }
  for problem, group in pairs(groups.lacking or {}) do
    table.insert(list, 1, { group, made, { refuse = problem, status = FAILED } })
  end
  for problem, group in pairs(groups.astray or {}) do
    table.insert(list, 1, { group, made, { refuse = problem } })
  end
  for reason, group in pairs(groups.off or {}) do
    table.insert(list, 1, { group, made, { skip = reason } })
  end
  for reason, group in pairs(groups.halted or {}) do
    table.insert(list, 1, { group, look, { refuse = "node lost while running, " .. reason } })
  end
  return list
end

-- Runs the work to its last record in the store. work: jid, k, epoch, effect (0 for an operation),
-- names, indexes (or from, when they follow each other), marks (text, or nil when none was started
-- before), stop (why no more hosts may start, or nil), lack (why none can, or nil: then they are
-- FAILED), paused (none starts until run:pause(false)), name (which its records bear, or nil).
-- made: the plan, filled in. While it runs, work.run is the fan-out, work.begun is true, work.lasts
-- says that the next owner can go on with it. Returns true, or nil, err (code "closed": the node
-- ends).
function targets.run(node, work, made, repeatable)
  work.whole = made.ansible and ansible_run or made.process and process_run or nil
  if made.process and work.marks then process_run.sweep(work, made) end
  local groups = sort_targets(node, work, repeatable, made)
  for _, step in ipairs(steps(work, groups, made, repeatable)) do
    if step[2].settles then step[2].settle_until = timer.now() + config.runner.settle_timeout end
    local ok, err = run_group(node, work, step[1], step[2], step[3])
    if not ok then return nil, err end
  end
  return true
end

return targets
