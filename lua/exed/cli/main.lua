-- SPDX-License-Identifier: MIT
-- What `exed-run VERB ...` runs: finds lua/exed/cli/VERB.lua and calls it.
--
-- A verb's file returns { summary = "one line", usage = "text for --help", run = function(argv) }.
-- argv is the list of words after the verb, without --help unless the file says `knows_help`. run
-- returns the exit code (none: 0), and may wait. What it raises ends with code 1, with its message
-- alone when it is a table with one; a table with code "usage" ends with 2, one with `exit` with
-- that.

local json = require "exed.json"
local inventory = require "exed.inventory"
local text = require "exed.text"
local words = require "exed.words"

-- In the order in which help shows them.
local VERBS <const> = {
  "exec", "copy", "fetch", "ping", "facter", "service", "hosts", "task", "jobs", "follow", "cancel",
  "approve", "pause", "resume", "rerun", "journal", "openapi",
}

-- In place of a verb, since tasks may have these names.
local OPTIONS <const> = { "--list", "--check", "--new", "--test", "--replay" }

local USAGE <const> = [[
usage: exed-run [-c FILE] VERB [ARGUMENT...]
       exed-run [-c FILE] TASK [OPTION...] PATTERN
       exed-run [-c FILE] SCRIPT.lua [ARGUMENT...]

Runs one operation on many hosts, a task, or a Lua script with exed's modules.

]]

local TAIL <const> = [[

  -c, --conf FILE   settings; default ./exed.conf, if there is one
  -h, --help        this text; after a verb, what the verb takes
  -v, --version     the version
A SCRIPT's name ends in .lua or holds a slash; a file that returns a task is run as one.
Exit codes: 0 all went well, 1 some host or job failed, 2 wrong usage, 130 interrupted.
]]

local function module_of(verb) return "exed.cli." .. verb:gsub("^%-%-", "") end

local function is_there(verb) return package.searchpath(module_of(verb), package.path) ~= nil end

local function known()
  local list = {}
  for _, verbs in ipairs { VERBS, OPTIONS } do
    for _, verb in ipairs(verbs) do
      if is_there(verb) then list[#list + 1] = verb end
    end
  end
  return list
end

local function help()
  io.stdout:write(USAGE)
  for _, verb in ipairs(known()) do
    io.stdout:write(("  %-10s %s\n"):format(verb, require(module_of(verb)).summary))
  end
  io.stdout:write(TAIL)
  return 0
end

local function complain(message) io.stderr:write("exed-run: ", message, "\n") end

local function wants_help(argv)
  for _, word in ipairs(argv) do
    if word == "--" then return false end
    if word == "--help" then return true end
  end
  return argv[1] == "-h"
end

-- Runs a verb; returns the exit code. called: how the user called it, when that is another name.
local function run(verb, argv, called)
  local found = require(module_of(verb))
  -- A task has its own help, which the verb gives.
  local other = found.knows_help and argv[1] and not argv[1]:find "^%-"
  if wants_help(argv) and not other then
    io.stdout:write(found.usage)
    return 0
  end
  local ok, result = xpcall(found.run, function(err)
    return type(err) == "table" and err or debug.traceback(tostring(err), 2)
  end, argv)
  if ok then return math.type(result) == "integer" and result or 0 end
  if type(result) ~= "table" then error(result, 0) end
  called = called or verb
  complain(("%s: %s"):format(called, text.escape(tostring(result.message))))
  if result.code ~= "usage" then return result.exit or 1 end
  io.stderr:write(("exed-run %s --help tells more\n"):format(called))
  return 2
end

inventory.use_json(json)

local argv = { ... }
local verb = table.remove(argv, 1)
if verb:find "[/.]" then return run("task", table.move(argv, 1, #argv, 2, { verb }), verb) end
if verb == "help" and not argv[1] then return help() end
if verb == "help" then verb, argv = argv[1], { "--help" } end

for _, name in ipairs(known()) do
  if name == verb then return run(verb, argv) end
end
if verb:find "^[%w_-]+$" and not verb:find "^%-" then
  require("exed.cli.task").verbs = known()
  return run("task", table.move(argv, 1, #argv, 2, { verb }), verb)
end
complain(("there is no verb %s%s"):format(words.show(verb), words.hint(verb, known())))
io.stderr:write("exed-run --help lists them\n")
return 2
