-- SPDX-License-Identifier: MIT
-- exed-run NAME, and exed-run task NAME: runs a task, by the exed that answers or by itself. What
-- it takes comes from the task's declared args.

local args = require "exed.cli.task_args"
local files = require "exed.tasks.files"
local options = require "exed.cli.options"
local remote = require "exed.cli.remote"
local targets = require "exed.cli.targets"
local words = require "exed.words"

-- What exed-run itself takes. After NAME a task's arg of the same name comes first, before NAME
-- these are always meant.
local OWN <const> = remote.declare {
  targets.options.inventory,
  targets.options.max_hosts,
  { "dry-run", help = "touch nothing: run it on made-up hosts where all succeeds, on a clock that "
    .. "jumps, and print its steps" },
  { "detach", "d", help = "print the job's id, and do not wait" },
  remote.alone,
  { "json", help = "rows of JSON as following a job gives them" },
  { "quiet", "q", help = "no steps: announcements and outcomes only" },
  { "executor", type = "string", value = "NAME", shown = "[runner] executor, ssh",
    help = "who does the operations" },
  { "time-limit", type = "duration", min = 1, value = "TIME", shown = "the task's, or [tasks] "
    .. "time_limit", help = "over it the task is cancelled, and puts back what it took" },
  remote.patience,
}

local AFTER <const> = [[
The task is run by the exed that answers at its socket, or at --server, and this shows it until it
ends; when none answers, or with --alone or --inventory, it is run here, with no journal. Ctrl-C
cancels it: what runs is killed, what it took is put back, and the exit code is 130.

]] .. targets.pattern_help .. [[


Exit codes: 0 done, 1 failure, 2 wrong usage, 130 interrupted.]]

local before = {
  usage = { "exed-run [task] NAME [OPTION...] PATTERN", "exed-run task [OPTION...] NAME ..." },
  about = "Runs the task NAME on the hosts that PATTERN names. `exed-run --list` says which tasks "
    .. "there are, `exed-run NAME --help` what one takes. Verbs win over tasks of the same name; "
    .. "`exed-run task NAME` is always the task.",
  operands = 0, after = AFTER,
}
table.move(OWN, 1, #OWN, 1, before)
local parser = options.compile(before)

local verb = {
  summary = "run a task, also when a verb has its name", usage = parser.help, knows_help = true,
  verbs = nil, -- which there are, when the name might have been meant for one
}

-- ---- which task ---------------------------------------------------------------------------------

local function refuse_unknown(name, names)
  local verbs = verb.verbs or {}
  local known = table.move(verbs, 1, #verbs, #names + 1, table.move(names, 1, #names, 1, {}))
  error({
    code = "not_found", exit = 2, message = ("there is no %stask %s%s (exed-run --help "
      .. "and exed-run --list say which there are)"):format(#verbs > 0 and "verb and no " or "",
      words.show(name), words.hint(name, known)),
  }, 0)
end

-- As an exed knows it.
local function find_there(list, name)
  local names = {}
  for _, one in ipairs(list) do
    names[#names + 1] = one.name
    if one.name == name then
      if one.args then return one end
      error({ code = "failed", message = ("task %s does not load: %s"):format(name, one.error) }, 0)
    end
  end
  refuse_unknown(name, names)
end

-- The task's file here, and what it declares.
local function find_here(name, path)
  local file, err
  if path then file, err = files.open(path) else file, err = files.find(name) end
  if not file and err.code == "not_found" then refuse_unknown(name, err.names) end
  if not file then error(err, 0) end
  local described, wrong = files.describe(file)
  if not described then
    error({ code = "failed", message = ("task %s does not load: %s"):format(file.name, wrong) }, 0)
  end
  described.file, described.name = file, file.name
  return described
end

-- ---- what it takes ------------------------------------------------------------------------------

-- The parser for what follows the task's name, and the options of its args.
local function parser_of(task, command)
  local list, names = args.options(task.args)
  local decl = {
    usage = { command .. " [OPTION...] PATTERN" }, about = task.summary, after = AFTER,
  }
  if #list > 0 then
    decl[1] = "What the task takes:"
    table.move(list, 1, #list, 2, decl)
  end
  decl[#decl + 1] = "What exed-run takes:"
  for _, one in ipairs(OWN) do
    if not names[one[1]] then decl[#decl + 1] = one end
  end
  return options.compile(decl), list
end

local function wants_help(argv)
  for _, word in ipairs(argv) do
    if word == "--" then return false end
    if word == "--help" or word == "-h" then return true end
  end
  return false
end

local TLS <const> = {
  ["--token-file"] = true, ["--ca"] = true, ["--cert"] = true, ["--key"] = true,
}

-- The value of an option at argv[i], written in any of its ways; nil when it is not there.
local function value_at(argv, i, long, short)
  local word = argv[i]
  if word == long or short and word == short then return argv[i + 1] end
  if word:sub(1, #long + 1) == long .. "=" then return word:sub(#long + 2) end
  if short and word:sub(1, 2) == short then return word:sub(3) end
end

-- Which exed is asked has to be known before the task is, and so what its args are: these options
-- are looked for by their look. --server is ours when it is a URL.
local function look_ahead(argv, given)
  for i, word in ipairs(argv) do
    if word == "--" then break end
    local server = value_at(argv, i, "--server", "-s")
    if server and (server:find "^https?://" or server:find "^unix://" or word:find "^%-s") then
      given.server = given.server or server
    end
    given.inventory = given.inventory or value_at(argv, i, "--inventory", "-i")
    if word == "--alone" then given.alone = true end
  end
  for i, word in ipairs(given.server and argv or {}) do
    local name = word:match "^%-%-[%a-]+"
    if TLS[name] then given[name:sub(3)] = given[name:sub(3)] or value_at(argv, i, name) end
  end
end

-- Runs the task that argv names after exed-run's own options: by its name, or by a path (names have
-- neither slash nor point).
function verb.run(argv)
  local given = parser:parse(argv)
  local name = table.remove(given, 1)
  if not name then options.refuse "which task? `exed-run --list` lists them" end
  local rest = table.move(given, 1, #given, 1, {})
  local path = name:find "[/.]" and name
  local early = setmetatable({}, { __index = given })
  look_ahead(rest, early)
  local node, list
  -- A file of one's own, and an inventory of one's own, no server knows.
  local here = path or early.inventory
  if not here then node, list = remote.find(early, "/tasks") end
  local task = node and find_there(list, name) or find_here(name, path)
  local own, flags = parser_of(task, "exed-run " .. name)
  if wants_help(rest) then
    io.stdout:write(own.help)
    return 0
  end
  local more = own:parse(rest)
  for key, value in pairs(given) do
    if type(key) == "string" and more[key] == nil then more[key] = value end
  end
  if #more ~= 1 then
    options.refuse(#more == 0 and "a pattern is wanted: on which hosts?"
      or "one pattern is wanted, %d words were given", #more)
  end
  local values = args.values(flags, more)
  if more.alone or more.inventory then node = nil end
  if not node and not task.file then task = find_here(name, path) end
  if more["dry-run"] then
    return require("exed.cli.task_rehearse")(task, more, values, node)
  end
  if node then return require("exed.cli.task_remote")(node, task, more, values) end
  return require("exed.cli.task_alone")(task, more, values)
end

return verb
