-- SPDX-License-Identifier: MIT
-- exed-run --list: which tasks there are.

local files = require "exed.tasks.files"
local json = require "exed.json"
local options = require "exed.cli.options"
local remote = require "exed.cli.remote"

local parser = options.compile(remote.declare {
  usage = { "exed-run --list [OPTION...]" },
  about = "Lists the tasks of the exed that answers at its socket; without one those in tasks/ of "
    .. "[runner] modules and those that are shipped. `exed-run NAME --help` says what one takes.",
  remote.alone,
  { "json", help = "one JSON object per task: name, summary, args, path, error" },
})

-- As GET /tasks has them.
local function find_here()
  local list = {}
  for i, one in ipairs(files.list()) do
    local file, err = files.find(one.name)
    local described, wrong
    if file then described, wrong = files.describe(file) else wrong = err.message end
    list[i] = {
      name = one.name, type = described and described.type or "task", path = one.path,
      error = wrong,
      summary = described and described.summary, args = described and described.args,
    }
  end
  return list
end

local function run(argv)
  local given = parser:parse(argv)
  if given[1] then options.refuse("no word is wanted, %d were given", #given) end
  local node, list = remote.find(given, "/tasks")
  if not node then list = find_here() end
  local rows = { { "TASK", "WHAT IT DOES" } }
  for _, task in ipairs(list) do
    if given.json then print(json.encode(task)) end
    local what = task.summary or ""
    if task.error then
      what = (task.summary and what .. " (an older version; " or "(") .. "does not load: "
        .. task.error .. ")"
    end
    rows[#rows + 1] = { remote.line(task.name), remote.line(what) }
  end
  if not given.json then remote.table(rows) end
  return 0
end

return { summary = "which tasks there are", usage = parser.help, run = run }
