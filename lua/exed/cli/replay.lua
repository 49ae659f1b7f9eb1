-- SPDX-License-Identifier: MIT
-- exed-run --replay: whether another source fits what a task has done.

local files = require "exed.tasks.files"
local history = require "exed.cli.history"
local options = require "exed.cli.options"
local registry = require "exed.tasks.registry"
local remote = require "exed.cli.remote"
local replay = require "exed.tasks.replay"

local STREAMS <const> = { "stdout", "stderr" }

local parser = options.compile(remote.declare {
  usage = { "exed-run --replay [OPTION...] JID FILE.lua" },
  about = "Says whether FILE.lua could go on where the task's job JID is: runs it from its start, "
    .. "answered by the journal of a running exed. No host is touched. `exed-run resume --current` "
    .. "lets a paused job go on with what was saved in its tasks' directory.",
  after = "Exit codes: 0 it fits, 1 it does not, 2 wrong usage, or no exed answers.",
})

-- Output that was left out of the answers, by effect, host and stream: what is read must be there.
local function fetch_outputs(node, path, entries)
  local found = {}
  for _, entry in ipairs(entries) do
    for _, record in ipairs(entry.ans and entry.records or {}) do
      for _, stream in ipairs(STREAMS) do
        if record.rtc and record[stream] == nil and record.i >= 0 then
          local answer, err = node:ask("GET", ("%s/journal?output=%d&host=%d&stream=%s"):format(
            path, entry.ans, record.i, stream))
          if not answer then return nil, err end
          found[("%d.%d.%s"):format(entry.ans, record.i, stream)] = answer.text
        end
      end
    end
  end
  return function(n, index, stream) return found[("%d.%d.%s"):format(n, index, stream)] or "" end
end

local function say(path, found, names)
  if not found.fits then
    print(("%s does not fit: %s"):format(path, remote.line(found.message)))
    return 1
  end
  local after = "waits for an answer that the journal has not"
  if found.next then
    after = ("asks #%d (%s): %s"):format(found.next.n, remote.line(found.next.path),
      history.describe(found.next, names))
  elseif found.ends then
    after = found.ends.ok and "ends well"
      or "ends: " .. remote.line(found.ends.error and found.ends.error.message or "failed hosts")
  end
  print(("%s fits: it replays all %d effects, then it %s"):format(path, found.effects, after))
  return 0
end

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 2 then options.refuse("a jid and a file are wanted, %d words were given", #given) end
  local file, problem = files.open(given[2])
  if not file then options.refuse("%s", problem.message) end
  local described, wrong = files.describe(file)
  if not described then
    print(("%s does not load: %s"):format(given[2], wrong))
    return 1
  end
  local path, node = remote.job_path(given[1]), remote.connect(given)
  local entries, start = history.fetch(node, path, true)
  if not entries then return remote.fail("--replay", start) end
  local output, err = fetch_outputs(node, path, entries)
  if not output then return remote.fail("--replay", err) end
  local args
  args, err = registry.check_kept(described.args, start.args)
  if not args then return say(given[2], { fits = false, message = err.message }) end
  local names = {}
  for i, host in ipairs(start.hosts) do names[i] = host.name end
  start.args, start.name = args, file.name
  return say(given[2], replay.check {
    start = start, sources = file.sources, entries = entries, output = output,
  }, names)
end

return { summary = "whether another source fits what a task did", usage = parser.help, run = run }
