-- SPDX-License-Identifier: MIT
-- What the parts of a release have in common. r is one release: job, args, app (its directory on
-- hosts), size (hosts at once), from and to (by host, the name of what was live and of what is to
-- be), problem (by host, why it could not be prepared), reason (why the release was given up).
local talk = {}

local MAX_LINE <const> = 300 -- bytes of what a host says that go into its outcome

-- The beginning of a text, in whole characters.
local function cut(text)
  if #text <= MAX_LINE then return text end
  return (text:sub(1, MAX_LINE):gsub("[\xC0-\xFF][\x80-\xBF]*$", "")) .. "..."
end

-- Why an operation failed, in one line.
function talk.why(record)
  local last
  for line in (record.stderr or ""):gmatch "[^\n]+" do last = line end
  local text = record.error or record.unknown and "it is not known how it ended"
    or record.timed_out and "over its time limit" or record.cancelled and "cancelled"
    or record.signal and "killed by signal " .. record.signal
    or record.rtc and "exit code " .. record.rtc or record.status
  return last and ("%s (%s)"):format(cut(last), text) or text
end

-- Runs a command of lib.release on a host or a set.
function talk.ask(target, step, words, options)
  words.step, words.check = step, options.check
  words.timeout, words.window, words.changes = options.timeout, options.window, options.changes
  words.retries, words.delay = options.retries, options.delay
  words.backoff = options.retries and 1 or nil
  return target:execute(words)
end

-- What a host says of a release, where - is none; and what people are told, for a name.
function talk.name_of(text) return text ~= nil and text ~= "-" and text or "" end
function talk.show(name) return name == "" and "nothing" or name end

-- The set of the hosts of a list.
function talk.set_of(r, list)
  local has = {}
  for _, host in ipairs(list) do has[host] = true end
  return r.job.hosts:filter(function(host) return has[host] end)
end

-- Ends the release; all hosts go back to what they had.
function talk.give_up(r, reason)
  r.reason = reason
  r.job:abort(reason)
end

return talk
