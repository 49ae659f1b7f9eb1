-- SPDX-License-Identifier: MIT
-- What the verbs that speak to a running exed have in common: which one, and words for jobs.

local client = require "exed.client"
local config = require "exed.config"
local json = require "exed.json"
local options = require "exed.cli.options"
local ranges = require "exed.cli.ranges"
local sys = require "exed.sys"
local text = require "exed.text"

local remote = {}

-- Of each verb, to be put into its declaration.
remote.options = {
  server = {
    "server", "s", type = "string", value = "URL", shown = "exed.sock in the state directory",
    help = "which exed: http://HOST:PORT, https://HOST:PORT or unix:///PATH",
  },
  token = {
    "token-file", type = "string", value = "FILE", shown = "$EXED_TOKEN_FILE",
    help = "a file with the bearer token",
  },
  ca = {
    "ca", type = "string", value = "FILE", shown = "the system's",
    help = "authorities to trust, for https (PEM)",
  },
  cert = { "cert", type = "string", value = "FILE", help = "our own certificate, for https (PEM)" },
  key = { "key", type = "string", value = "FILE", help = "its private key (PEM)" },
}

-- Adds them to the declaration of a verb's options; returns it.
function remote.declare(decl)
  for _, name in ipairs { "server", "token", "ca", "cert", "key" } do
    decl[#decl + 1] = remote.options[name]
  end
  return decl
end

-- The exed that the options name; what is wrong with them raises.
function remote.connect(given)
  local node, err = client.new {
    server = given.server, token_file = given["token-file"] or os.getenv "EXED_TOKEN_FILE",
    ca = given.ca, cert = given.cert, key = given.key, dir = config.store.dir,
  }
  if not node then options.refuse("%s", err.message) end
  return node
end

remote.patience = {
  "patience", type = "duration", value = "TIME", default = 60, shown = "60s",
  help = "how long an exed that was lost is waited for",
}

remote.alone = {
  "alone", help = "do it in this process, also when an exed answers; no journal is kept",
}

-- The exed that is to be asked, and what it answers to GET `path`; nil when this process is to do
-- it by itself: nobody named one, and none answers at its socket.
function remote.find(given, path)
  if given.alone then
    if given.server then options.refuse "--alone and --server exclude each other" end
    return nil
  end
  local node = remote.connect(given)
  local by_default = not given.server
  if by_default and not sys.stat(node.socket) then return nil end
  local answer, err = node:ask("GET", path)
  if answer then return node, answer end
  if err.away and by_default then
    io.stderr:write("exed-run: no exed answers at its socket, so this is done without one\n")
    return nil
  end
  err.exit = err.away and 2 or 1
  error(err, 0)
end

-- The path of a job; a word that is no jid raises.
function remote.job_path(jid)
  if not jid:find "^%x[%x-]*$" then options.refuse("%q is no jid", text.escape(jid)) end
  return "/jobs/" .. jid
end

-- POSTs to each of the jobs of argv; returns the exit code. what: verb (the path's, and for
-- messages), body, said (what is printed of each), json (the answers as objects).
function remote.tell(given, what)
  if not given[1] then options.refuse "which job? `exed-run jobs` lists them" end
  local paths = {}
  for i, jid in ipairs(given) do paths[i] = remote.job_path(jid) end
  local node, code = remote.connect(given), 0
  for i, path in ipairs(paths) do
    local answer, err = node:ask("POST", path .. "/" .. what.verb, what.body or {})
    if err and err.away then return remote.fail(what.verb, err) end
    if what.json then
      print(json.encode(answer or { jid = given[i], message = err.message }))
    elseif answer then
      print(given[i] .. " " .. what.said)
    else
      remote.fail(what.verb, err)
    end
    if not answer then code = 1 end
  end
  return code
end

-- Says why it failed; returns the exit code: 2 when no exed could be asked, else 1.
function remote.fail(verb, err)
  io.stderr:write(("exed-run: %s: %s\n"):format(verb, text.escape(err.message)))
  return err.away and 2 or 1
end

-- ---- words --------------------------------------------------------------------------------------

local RUNNING <const> = 1
local STATUS <const> = {
  [0] = "ANNOUNCE", "OK", "SKIPPED", "FAILED", "UNREACHABLE", "CHANGED", [-1] = "NO MATCH",
}
-- In the order in which they are counted up; the API writes SKIPED.
local COUNTED <const> = {
  { "CHANGED", "CHANGED" }, { "OK", "OK" }, { "SKIPED", "SKIPPED" }, { "FAILED", "FAILED" },
  { "UNREACHABLE", "UNREACHABLE" }, { "NO MATCH", "NO MATCH" },
}

function remote.status_word(status) return STATUS[status] or "status " .. tostring(status) end

function remote.state_word(job)
  if job.state == RUNNING then return job.phase or "running" end
  if job.state == 0 then return "done" end
  return job.error == "cancelled" and "cancelled" or "failure"
end

-- "20 CHANGED, 1 FAILED", of a table by the API's words; and how many they are.
function remote.count_words(counts)
  local out, sum = {}, 0
  for _, pair in ipairs(COUNTED) do
    local n = counts[pair[1]]
    if n then
      out[#out + 1] = ("%d %s"):format(n, pair[2])
      sum = sum + n
    end
  end
  return table.concat(out, ", "), sum
end

-- One line for a terminal: control characters escaped, cut to so many characters when given.
function remote.line(value, width)
  local shown = text.escape((tostring(value):gsub("%s+", " ")))
  if width and (utf8.len(shown) or #shown) > width then
    shown = shown:sub(1, (utf8.offset(shown, width - 2) or width - 2) - 1) .. "..."
  end
  return shown
end

-- Names as ranges, with their number when they are many.
function remote.hosts(names, width)
  local shown = remote.line(ranges.fold(names), width)
  return #names > 1 and ("%s (%d)"):format(shown, #names) or shown
end

-- What a job does: "execute uptime -p".
function remote.describe(job)
  local args = type(job.operate_args) == "table" and job.operate_args or {}
  local words = { job.operate }
  if job.operate == "service" then
    local verb = args.restart and (args.graceful and "reload" or "restart")
      or args.start and "start" or "stop"
    words[2], words[3] = verb, args.name
  else
    words[2] = args.command or args.taskname or args.role
  end
  return table.concat(words, " ")
end

function remote.time(seconds) return os.date("%Y-%m-%d %H:%M:%S", math.floor(seconds)) end

local SPANS <const> = { { 86400, "d", 3600, "h" }, { 3600, "h", 60, "m" }, { 60, "m", 1, "s" } }

-- A duration in one or two units: 42 s, 3 m 10 s, 5 h 2 m, 4 d 3 h.
function remote.span(seconds)
  seconds = math.max(0, math.floor(seconds))
  for _, unit in ipairs(SPANS) do
    if seconds >= unit[1] then
      return ("%d %s %d %s"):format(seconds // unit[1], unit[2], seconds % unit[1] // unit[3],
        unit[4])
    end
  end
  return seconds .. " s"
end

-- Writes rows of texts as a table with columns; the first row is its head.
function remote.table(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i = 1, #row - 1 do
      widths[i] = math.max(widths[i] or 0, utf8.len(row[i]) or #row[i])
    end
  end
  for _, row in ipairs(rows) do
    local out = {}
    for i, cell in ipairs(row) do
      local gap = i < #row and widths[i] - (utf8.len(cell) or #cell) or 0
      out[i] = cell .. (" "):rep(gap)
    end
    print((table.concat(out, "  "):gsub("%s+$", "")))
  end
end

return remote
