-- SPDX-License-Identifier: MIT
-- exed-run NAME --dry-run: runs a task on made-up hosts, where all succeeds, on a clock that jumps
-- to what happens next, and prints its steps. Nothing is touched.

local inventory = require "exed.inventory"
local json = require "exed.json"
local output = require "exed.cli.output"
local options = require "exed.cli.options"
local ranges = require "exed.cli.ranges"
local registry = require "exed.tasks.registry"
local rehearsal = require "exed.task.rehearsal"
local remote = require "exed.cli.remote"
local report = require "exed.cli.report"
local targets = require "exed.cli.targets"

local FACTS_JOBS <const> = 5 -- the newest jobs of facter in which facts are looked for

-- ---- facts --------------------------------------------------------------------------------------

-- Takes the facts of a job's records for hosts that have none yet.
local function take_facts(facts, job)
  for name, list in pairs(job.return_data or {}) do
    for _, record in ipairs(list) do
      if record.facts and not facts[name] then facts[name] = record.facts end
    end
  end
end

-- The last known facts, by host: of the newest jobs of facter of the exed that answers, if one
-- does.
local function last_facts(given)
  local node, jobs = remote.find(given, "/jobs?detail=1&all=1")
  local facts, looked = {}, 0
  for i = #(node and jobs or {}), 1, -1 do
    if jobs[i].operate == "facter" and looked < FACTS_JOBS then
      looked = looked + 1
      local job = node:ask("GET", remote.job_path(jobs[i].taskid) .. "?outputs=1")
      if job then take_facts(facts, job) end
    end
  end
  return facts
end

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

local function show_outcomes(out, hosts, outcomes)
  local groups, order = {}, {}
  for _, host in ipairs(hosts) do
    local one = outcomes[host.name]
    local key = one and one.status .. (one.text or "")
    if key and not groups[key] then
      groups[key] = { names = {}, one = one }
      order[#order + 1] = groups[key]
    end
    if key then table.insert(groups[key].names, host.name) end
  end
  for _, group in ipairs(order) do
    local why = group.one.text and group.one.text ~= "" and ": " .. group.one.text or ""
    out:put(("== %s (%s): %s%s\n"):format(ranges.fold(group.names), report.count(#group.names),
      report.word(NUMBERS[group.one.status]), why))
  end
end

-- task: what its file declares, and file; given: the options; values: of its args.
return function(task, given, values)
  local found = targets.open(given)
  local hosts, unknown = targets.match(found, given[1])
  if unknown[1] then options.refuse("no host is called %s", table.concat(unknown, ", ")) end
  local checked, err = registry.checker(task.args):check(values, "json")
  if not checked then options.refuse("%s", err.message) end
  local described = {}
  for i, host in ipairs(hosts) do described[i] = inventory.describe(host) end
  local fleet = rehearsal.of { hosts = described, sources = task.file.sources }
  local facts = given.inventory and {} or last_facts(given)
  fleet:answer { op = "facter", reply = function(host)
    return { facts = facts[host.name] or { hostname = host.name } }
  end }
  local result = fleet:run(task.name, { args = values, dry_run = true, who = os.getenv "USER" })
  local out = output.new()
  if given.json then
    for _, one in ipairs(result.history) do out:put(json.encode(one) .. "\n") end
  else
    show_steps(out, result.history)
    show_outcomes(out, hosts, result.outcomes)
  end
  for _, text in ipairs(result.printed) do out:note("it printed: %s", text) end
  out:note("dry run %s: %d steps, nothing was touched%s", result.ok and "done" or "failure",
    #result.steps, result.error and (" (%s)"):format(result.error.message) or "")
  out:flush()
  return result.ok and 0 or 1
end
