-- SPDX-License-Identifier: MIT
-- exed-run journal: what a task of a running exed asked, and what it was answered.

local history = require "exed.cli.history"
local json = require "exed.json"
local options = require "exed.cli.options"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run journal [OPTION...] JID" },
  about = "Prints the journal of a task, an effect a line: its number, when it was asked, its path "
    .. "(#3 is the third of run, /1/web07#2 the second of web07 in the first each.window), what "
    .. "was asked, what was answered and after how long. Effects without an answer are running, or "
    .. "were when their node was lost.",
  { "json", help = "the entries as they are, one JSON object a line" },
})

local function clock(at) return at and os.date("%H:%M:%S", math.floor(at)) or "" end

local function took(ask, ans)
  if not ask.at or not ans.at then return "" end
  return ("%.1f s"):format(math.max(0, ans.at - ask.at))
end

-- Rows of a table: an effect a line, in the order of asking, with events where they came.
local function to_rows(entries, names)
  local answers, rows = {}, { { "N", "AT", "PATH", "ASKED", "ANSWERED", "AFTER" } }
  for _, entry in ipairs(entries) do
    if entry.ans then answers[entry.ans] = entry end
  end
  for _, entry in ipairs(entries) do
    local ask, event = entry.ask, entry.event or entry.limit
    if ask then
      local ans = answers[ask.n]
      local waits = ask.note and "" or "-"
      rows[#rows + 1] = {
        tostring(ask.n), clock(ask.at), remote.line(ask.path), history.describe(ask, names),
        ans and history.answer(ans) or waits, ans and took(ask, ans) or "",
      }
    elseif event then
      rows[#rows + 1] = {
        "", clock(entry.at), "", remote.line(("%s: %s"):format(entry.event and "event" or "limit",
          event.message or event.code)), "", "",
      }
    end
  end
  return rows
end

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 1 then options.refuse("one jid is wanted, %d words were given", #given) end
  local path, node = remote.job_path(given[1]), remote.connect(given)
  local entries, err = history.fetch(node, path)
  if not entries then return remote.fail("journal", err) end
  if given.json then
    for _, entry in ipairs(entries) do print(json.encode(entry)) end
    return 0
  end
  local job
  job, err = node:ask("GET", path)
  if not job then return remote.fail("journal", err) end
  remote.table(to_rows(entries, job.targets))
  return 0
end

return { summary = "what a task asked, and was answered", usage = parser.help, run = run }
