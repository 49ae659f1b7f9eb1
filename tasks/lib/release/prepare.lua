-- SPDX-License-Identifier: MIT
-- What comes before the first switch: which release it is, and that it is whole on all hosts.
local shell = require "lib.release.shell"
local request = require "lib.release.request"
local sources = require "lib.release.sources"
local talk = require "lib.release.talk"

local ask, name_of, show, why = talk.ask, talk.name_of, talk.show, talk.why

-- The name of the release that the revision is: the same on all hosts, so one of them is asked.
local function resolve(r)
  local args = r.args
  if args.apptype ~= "git" or not args.revision then return args.revision end
  local problem
  for _, host in ipairs(r.job.hosts) do
    local record = ask(host, "resolve", sources.resolve(r.app, args.source, args.revision),
      { check = false, timeout = args.timeout })
    local name = record.ok and record.stdout:match "^(%x+)\n"
    if name then return name end
    if record.ok and r.job.dry_run then return args.revision end
    problem = ("%s: %s"):format(host.name, record.ok and "no commit came" or why(record))
    if record.status ~= "UNREACHABLE" then break end
  end
  talk.give_up(r, problem)
end

-- Keeps what a host answered to being prepared, or why it cannot be switched.
local function note(r, record, name)
  local host, problem = record.host, nil
  if record.ok then
    local live, before = record.stdout:match "^live: ([^\n]*)\nbefore: ([^\n]*)\n"
    r.from[host], r.to[host] = name_of(live), name or name_of(before)
    if r.to[host] == "" and r.job.dry_run then r.to[host] = "the-one-before" end
    if not live and not r.job.dry_run then
      problem = "the host did not say what is live"
    elseif r.to[host] == "" then
      problem = "there is no release before " .. show(r.from[host])
    end
  else
    problem = why(record)
  end
  if problem then
    r.problem[host] = { status = record.ok and "FAILED" or record.status, error = problem }
  end
end

local function note_failed(r, record)
  if not record.failed then return end
  r.problem[record.host] = { status = record.status, error = why(record) }
end

-- Sends what the release is made of to the hosts that have not got it.
local function send(r, name, source)
  local places, order = {}, {}
  local staged = ask(r.job.hosts, "stage", sources.stage(r.app, name), { check = false })
  for _, record in ipairs(staged) do
    local place = record.ok and record.stdout:match "^(/[^\n]+)\n"
    if place and not places[place] then order[#order + 1] = place end
    if place then
      places[place] = places[place] or {}
      table.insert(places[place], record.host)
    end
    note_failed(r, record)
  end
  for _, place in ipairs(order) do
    local sent = talk.set_of(r, places[place]):copy {
      src = source, dest = place, step = "send", check = false, window = r.args.window,
      timeout = r.args.timeout,
    }
    for _, record in ipairs(sent) do note_failed(r, record) end
  end
end

-- Makes the release on all hosts, or looks what there is to go back to. Fills in, by host: from and
-- to, the names before and after, or problem.
return function(r)
  local args, name = r.args, resolve(r)
  local results
  if args.rollback then
    results = ask(r.job.hosts, "look", shell.look(r.app),
      { check = false, window = args.window, changes = false })
  else
    local source = request.source(args)
    if source:find "^node:" then send(r, name, source:sub(6)) end
    local ready = r.job.hosts:filter(function(host) return not r.problem[host] end)
    results = ask(ready, "prepare",
      sources.prepare(r.app, args.apptype, source, name, args),
      { check = false, window = args.window, timeout = args.timeout })
  end
  for _, record in ipairs(results) do note(r, record, name) end
end
