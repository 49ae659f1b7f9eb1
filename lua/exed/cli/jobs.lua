-- SPDX-License-Identifier: MIT
-- exed-run jobs: the jobs of a running exed, or one of them.

local json = require "exed.json"
local options = require "exed.cli.options"
local remote = require "exed.cli.remote"
local report = require "exed.cli.report"
local timer = require "exed.timer"

local RUNNING <const> = 1
local WHAT <const> = 40 -- characters of an operation in the list
local HOSTS <const> = 30 -- of a job's hosts there

local parser = options.compile(remote.declare {
  usage = { "exed-run jobs [OPTION...]", "exed-run jobs [OPTION...] JID" },
  about = "Lists the jobs of a running exed, newest last, or shows one: what became of its hosts, "
    .. "and while it runs the hosts that hold it up, longest first.",
  { "all", "a", help = "also those of GET requests" },
  { "last", "n", type = "integer", min = 1, value = "N", default = 50, help = "how many" },
  { "json", help = "the job objects of the API, one a line" },
})

-- ---- the list -----------------------------------------------------------------------------------

-- Calls fn(job) for the last jobs. Returns true, or nil, err.
local function each_job(node, given, fn)
  local jids, err = node:ask("GET", given.all and "/jobs?all=1" or "/jobs")
  if not jids then return nil, err end
  for i = math.max(1, #jids - given.last + 1), #jids do
    local job
    job, err = node:ask("GET", remote.job_path(jids[i]) .. "?detail=1")
    if job then
      fn(job)
    elseif err.status ~= 404 then -- it was deleted meanwhile
      return nil, err
    end
  end
  return true
end

local function progress(job)
  local words, done = remote.count_words(job.counts or {})
  if job.state ~= RUNNING then return words end
  return ("%d of %d%s"):format(done, #job.targets, words ~= "" and ": " .. words or "")
end

local function list(node, given)
  local rows = { { "JID", "STATE", "STARTED", "OPERATION", "HOSTS", "RECORDS" } }
  local ok, err = each_job(node, given, function(job)
    if given.json then return print(json.encode(job)) end
    rows[#rows + 1] = {
      remote.line(job.taskid), remote.state_word(job), remote.time(job.startat),
      remote.line(remote.describe(job), WHAT), remote.hosts(job.targets, HOSTS), progress(job),
    }
  end)
  if not ok then return remote.fail("jobs", err) end
  if not given.json then remote.table(rows) end
  return 0
end

-- ---- one job ------------------------------------------------------------------------------------

local function field(name, value) print(("%-10s %s"):format(name, value)) end

local function how_far(one)
  if not one.size then return "" end
  return (", %s of %s"):format(report.bytes(one.sent or 0), report.bytes(one.size))
end

local function show_running(job, now)
  for i, one in ipairs(job.running or {}) do
    field(i == 1 and "running" or "", ("%s: %s for %s%s"):format(remote.line(one.host),
      remote.line(one.phase), remote.span(now - one.since), how_far(one)))
  end
end

local function show(job)
  local now = timer.wall()
  field("jid", remote.line(job.taskid))
  field("operation", remote.line(remote.describe(job)))
  field("hosts", remote.hosts(job.targets))
  local ended = job.endat and (", ended %s"):format(remote.time(job.endat))
    or (", %s ago"):format(remote.span(now - job.startat))
  field("started", remote.time(job.startat) .. ended)
  field("state", remote.state_word(job))
  if job.error ~= "" then field("error", remote.line(job.error)) end
  if job.parent then field("rerun of", remote.line(job.parent)) end
  field("records", progress(job))
  show_running(job, now)
end

local function show_one(node, given)
  local job, err = node:ask("GET", remote.job_path(given[1]) .. "?detail=1")
  if not job then return remote.fail("jobs", err) end
  if given.json then
    print(json.encode(job))
  else
    show(job)
  end
  return 0
end

local function run(argv)
  local given = parser:parse(argv)
  if given[2] then options.refuse("one jid is wanted, %d words were given", #given) end
  local node = remote.connect(given)
  if given[1] then return show_one(node, given) end
  return list(node, given)
end

return { summary = "the jobs of a running exed", usage = parser.help, run = run }
