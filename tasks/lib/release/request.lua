-- SPDX-License-Identifier: MIT
-- What a request for a release asks, from the args of the task, and what they must say together.
local request = {}

-- Why a path inside a release is no good, or nil.
local function wrong_path(path)
  for part in path:gmatch "[^/]+" do
    if part == "." or part == ".." then return "has the part " .. part end
  end
  return path:find("//", 1, true) and "has an empty part" or nil
end

local function wrong_revision(args)
  local revision = args.revision
  if revision == "?" then
    return args.rollback and "'revision' ? and 'rollback' exclude each other" or nil
  end
  if revision:find("?", 1, true) or wrong_path(revision) or revision:find("/$") then
    return "'revision': no release can be called " .. revision
  end
  if args.apptype ~= "git" and revision:find("/", 1, true) then
    return ("'revision' %s: a release of apptype %s is a directory of that name, without a /")
      :format(revision, args.apptype)
  end
end

local function wrong_source(args)
  local source = args.source
  if not source then
    return ("'source' is missing: where the releases of apptype %s come from"):format(args.apptype)
  end
  local here = source:find "^/" or source:find "^node:."
  if args.apptype == "directory" and not here then
    return "'source' must be an absolute path, or node:PATH, for apptype directory"
  end
  if args.apptype == "archive" and not here and not source:find "^https?://[^/]" then
    return "'source' must be an absolute path, an http(s) URL, or node:PATH, for apptype archive"
  end
end

-- Why the args cannot be done, or nil.
local function wrong(args)
  if not args.revision and not args.rollback then return "'revision' is missing" end
  local problem = args.revision and wrong_revision(args)
  if problem then return problem end
  if args.base:find "^~" and not args.base:find "^~/" then
    return "'base' must be an absolute path, or begin with ~/"
  end
  for _, path in ipairs(args.shared or {}) do
    problem = wrong_path(path)
    if problem then return ("'shared': %s %s"):format(path, problem) end
  end
  if args.revision == "?" then return nil end
  if not args.rollback or args.apptype == "git" and args.revision then return wrong_source(args) end
end

-- The task's own check of its args.
function request.check(args)
  local problem = wrong(args)
  if problem then return nil, problem end
  return true
end

-- Where the release is, with the revision in the place of {revision}.
function request.source(args)
  return (args.source:gsub("{revision}", function() return args.revision end))
end

-- The directory of the app on its hosts.
function request.app(args) return (args.base:gsub("/+$", "")) .. "/" .. args.appname end

-- A count of `all` hosts, a percentage rounded down.
function request.down(value, all)
  if math.type(value) == "integer" then return value end
  return all * math.tointeger(tonumber(value:match "%d+")) // 100
end

-- The same, rounded up and at least 1.
function request.up(value, all)
  if math.type(value) == "integer" then return math.max(1, value) end
  return math.max(1, (all * math.tointeger(tonumber(value:match "%d+")) + 99) // 100)
end

-- The declaration of the task's args.
request.args = {
  appname = { "string", required = true, match = "^[%w_][%w._-]*$", max = 100,
    help = "name of the app: its directory is BASE/APPNAME" },
  apptype = { "choice", of = { "git", "archive", "directory" }, default = "git",
    help = "what a release is made of" },
  revision = { "string", match = "^[%w?][%w._+/-]*$", max = 200,
    help = "tag, branch or commit; name of the release for other types; ? asks which is live" },
  rollback = { "boolean", default = false,
    help = "back to the release before, or to the one that revision names" },
  source = { "string", match = "^[%w/][^%c%s]*$", max = 1000,
    help = "git, archive: URL or path; directory: path; on the hosts, or node:PATH" },
  checksum = { "string", match = "^%x+$", min = 64, max = 64, help = "SHA-256 of the archive" },
  strip = { "integer", default = 0, min = 0, max = 10,
    help = "directories to take off the names in an archive" },
  base = { "string", default = "/srv", match = "^[/~][^%c]*$", max = 1000,
    help = "directory of all apps: an absolute path, or one from the user's home, ~/apps" },
  shared = { "list", of = { "string", match = "^[%w._][%w._/-]*$" }, max = 100,
    help = "paths that all releases share; a / at the end makes a missing directory" },
  keep = { "integer", default = 5, min = 1, max = 1000, help = "releases to keep" },
  before = { "command", help = "run in the new release before it is live" },
  after = { "command", help = "run in it when it is live, and after going back" },
  health = { "command", help = "run in it until it succeeds" },
  health_tries = { "integer", default = 10, min = 1, max = 1000, help = "how often, at most" },
  health_every = { "duration", default = "3s", help = "time between two tries" },
  size = { "count", default = "10%", help = "hosts that are switched at once" },
  max_failed = { "count", default = 0, help = "all go back when more hosts than this have failed" },
  canary = { "count", default = 1, help = "hosts that go first and must all succeed" },
  settle = { "duration", default = 0, help = "wait after each host before the next" },
  window = { "integer", min = 1, help = "hosts at once where nothing goes live" },
  timeout = { "duration", default = "10m", min = 1, help = "for making the release on a host" },
  hook_timeout = { "duration", default = "5m", min = 1, help = "for each hook and health check" },
}

return request
