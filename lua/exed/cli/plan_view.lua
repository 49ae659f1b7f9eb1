-- SPDX-License-Identifier: MIT
-- Shows the plan of a dry run, of a task or an operation: its steps in their order, what would
-- become of the hosts, and how it would end.

local json = require "exed.json"
local output = require "exed.cli.output"
local ranges = require "exed.cli.ranges"
local remote = require "exed.cli.remote"
local report = require "exed.cli.report"
local words = require "exed.words"

-- ---- steps --------------------------------------------------------------------------------------

local function what_of(step)
  local what = step.op == "http" and step.what or ("%s %s"):format(step.op, step.what)
  return step.step and ("%s: %s"):format(step.step, what) or what
end

-- What is done at the same time on several hosts is one line.
local function fold(history)
  local lines, last = {}, nil
  for _, one in ipairs(history) do
    local what = one.said and "-- " .. one.said or what_of(one)
    if last and not one.said and last.at == one.at and last.what == what then
      table.insert(last.hosts, one.host)
    else
      last = { at = one.at, what = what, hosts = { one.host } }
      lines[#lines + 1] = last
    end
  end
  return lines
end

-- Steps of several hosts that begin together come host by host; here the same step of all comes
-- together.
local function together(history)
  local sorted, places = {}, {}
  for i, one in ipairs(history) do
    local key = one.said and i or ("%g %s"):format(one.at, what_of(one))
    places[key] = places[key] or i
    sorted[i] = { one = one, place = places[key], i = i }
  end
  table.sort(sorted, function(a, b)
    if a.place ~= b.place then return a.place < b.place end
    return a.i < b.i
  end)
  for i, item in ipairs(sorted) do sorted[i] = item.one end
  return sorted
end

local function clock(seconds)
  return ("%d:%02d:%02d"):format(seconds // 3600, seconds % 3600 // 60, seconds % 60 // 1)
end

local function show_steps(out, history)
  local lines, width = fold(together(history)), 4
  for _, line in ipairs(lines) do
    line.names = line.hosts[1] and line.hosts[1] ~= "" and ranges.fold(line.hosts) or ""
    width = math.max(width, math.min(#line.names, 40))
  end
  for _, line in ipairs(lines) do
    local gap = (" "):rep(math.max(0, width - #line.names))
    out:put(("%8s  %s%s  %s\n"):format(clock(line.at), line.names, gap,
      remote.line(line.what)))
  end
end

local NUMBERS <const> = { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 }

-- Hosts with the same outcome together.
local function show_outcomes(out, outcomes)
  local groups, order = {}, {}
  for _, name in ipairs(ranges.sort(words.keys(outcomes))) do
    local one = outcomes[name]
    local key = one.status .. (one.text or "")
    if not groups[key] then
      groups[key] = { names = {}, one = one }
      order[#order + 1] = groups[key]
    end
    table.insert(groups[key].names, name)
  end
  for _, group in ipairs(order) do
    local why = group.one.text and group.one.text ~= "" and ": " .. group.one.text or ""
    out:put(("== %s (%s): %s%s\n"):format(ranges.fold(group.names), report.count(#group.names),
      report.word(NUMBERS[group.one.status]), remote.line(why)))
  end
end

-- plan: as POST /tasks and the operations answer it with dry_run. With given.json its steps, one
-- JSON object a line. Returns the exit code.
return function(plan, given)
  local out, steps = output.new(), 0
  for _, one in ipairs(plan.steps) do
    if given.json then out:put(json.encode(one) .. "\n") end
    if not one.said then steps = steps + 1 end
  end
  if not given.json then
    show_steps(out, plan.steps)
    show_outcomes(out, plan.outcomes)
  end
  for _, name in ipairs(plan.no_match or {}) do out:note("no host is called %s", name) end
  out:note("dry run %s: %d steps, nothing was touched%s", plan.state == 0 and "done" or "failure",
    steps, plan.error ~= "" and (" (%s)"):format(plan.error) or "")
  out:flush()
  return plan.state == 0 and not out.closed and 0 or 1
end
