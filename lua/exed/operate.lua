-- SPDX-License-Identifier: MIT
-- What the endpoints of operations share: the fields that each request may have, a job for a POST,
-- and for a GET a job whose records are the answer.

local answer = require "exed.answer"
local idempotency = require "exed.idempotency"
local jobs = require "exed.jobs"

local operate = {}

local OPTIONS <const> = { -- of every operation
  targets = {
    "hosts", required = true, first = true, alias = "target", missing = "no target(s) given",
    help = "hosts, groups and patterns",
  },
  executor = { "string", help = "who does it; default [runner] executor" },
  lock = { "choice", of = { "exclusive", "shared", "none" }, help = "lease on the hosts" },
  fence = { "boolean", help = "start at most once on each host, whatever happens" },
  priority = { "integer", min = -10, max = 10, help = "higher goes first" },
  timeout = { "duration", min = 0.001, help = "time limit of each host's operation" },
  window = { "integer", min = 1, help = "hosts at once" },
  lines = { "boolean", help = "followers see output as it comes" },
  max_hosts = { "integer", min = 1, help = "refuse more targets than this" },
  dry_run = { "boolean", default = false, help = "no job: what would be done, if all went well" },
}

operate.OPTIONS = OPTIONS

-- The declaration of an operation's query or body: its own fields and those that all have.
function operate.fields(own)
  local decl = {}
  for name, field in pairs(OPTIONS) do decl[name] = field end
  for name, field in pairs(own) do decl[name] = field end
  return decl
end

-- values: the checked query or body; args: what the operation itself gets.
local function to_request(req, values, operation, args)
  local request = {
    operation = operation, args = args, who = req.who, resolved = req.resolved,
    targets = nil, dry_run = nil, count = nil, fenced = nil, -- room for what comes
  }
  for name, value in pairs(values) do
    if OPTIONS[name] then request[name] = value end
  end
  return request
end

-- Makes the request's job by submit(request): 201 with its jid. The same again, by its
-- Idempotency-Key, makes no second job.
function operate.create(req, request, submit)
  local found, err = idempotency.of(req)
  if err then return nil, err end
  if found then request.idem_key, request.idem_hash = found.key, found.hash end
  local made
  made, err = submit(request)
  if not made then return nil, err end
  return idempotency.answer(made)
end

-- What the request's operation would do: 200 with its plan.
function operate.preview(req, request)
  local plan, err = jobs.preview(req.node, request)
  if not plan then return nil, err end
  return 200, function(out) return plan:write(out) end
end

-- A POST: a job, 201 with its jid.
function operate.post(req, operation, args)
  local request = to_request(req, req.body, operation, args)
  if request.dry_run then return operate.preview(req, request) end
  return operate.create(req, request, function(one) return jobs.submit(req.node, one) end)
end

-- The same with a function that makes the job of the request.
function operate.post_job(req, operation, submit)
  return operate.create(req, to_request(req, req.body, operation, nil), submit)
end

-- A GET: a job that is not listed; the answer is its records, when it has ended. The job goes on
-- when the client leaves.
function operate.get(req, operation, args)
  local request = to_request(req, req.query, operation, args)
  if request.dry_run then return operate.preview(req, request) end
  request.listed = false
  local made, err = jobs.submit(req.node, request)
  if not made then return nil, err end
  return 200, function(out)
    local ok, failed = answer.records(req.node, { jid = made.jid, lines = request.lines }, out)
    if failed then failed.jid = made.jid end -- there is a job, and it goes on
    return ok, failed
  end, { ["Exed-Jid"] = made.jid }
end

return operate
