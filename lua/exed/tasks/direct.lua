-- SPDX-License-Identifier: MIT
-- Effects that this process does itself, with no host to run anything on: web requests, and
-- commands of the node. Both wait; ending the fiber ends them.

local http = require "exed.http"
local proc = require "exed.proc"

local direct = {}

local OUTPUT <const> = 65536 -- bytes of a command's output that a task sees
local TIMEOUT <const> = 60 -- seconds, when the task says none

function direct.failed(code, message) return { error = { code = code, message = message } } end

-- A web request. key: what a server may know a repeated one by.
function direct.http(args, key)
  local headers = {}
  for name, value in pairs(args.headers or {}) do headers[name] = value end
  if args.method ~= "GET" and args.method ~= "HEAD" then
    headers["Idempotency-Key"] = headers["Idempotency-Key"] or key
  end
  local answer, err = http.request(args.method, args.url, {
    headers = headers, body = args.body, timeout = args.timeout,
  })
  if not answer then return { failed = { code = err.code, message = err.message } } end
  return { response = {
    status = answer.status, headers = answer.headers, body = answer.body, json = answer.json,
    truncated = answer.truncated,
  } }
end

local function to_record(found)
  local good = found.code == 0 and not found.timed_out
  return {
    i = -1, status = good and 5 or 3, rtc = found.timed_out and 124 or found.code
      or 128 + (found.signal or 0),
    stdout = found.stdout, stderr = found.stderr, signal = found.signal,
    timed_out = found.timed_out or nil, truncated = found.truncated or nil,
    error = not good and (found.timed_out and "over its time limit"
      or "exit code " .. tostring(found.code)) or nil,
  }
end

local function is_allowed(path, allowed)
  for _, one in ipairs(allowed or {}) do
    if one == path then return true end
  end
  return false
end

-- Why a command of the node is refused, as an answer; nil when it may be run. allowed: [tasks]
-- local_commands.
function direct.refused(args, allowed)
  local argv = args.fields.argv
  if not argv then
    return direct.failed("failed",
      "job.node:execute wants a list of words, no text for a shell")
  end
  if is_allowed(argv[1], allowed) then return nil end
  return direct.failed("failed", ("job.node:execute: %s is not in [tasks] local_commands")
    :format(argv[1]))
end

-- job.node:execute: a list of words. op: its op id.
function direct.command(args, op)
  local fields = args.fields
  local found, err = proc.run {
    argv = fields.argv, env = fields.env, stdin = fields.stdin, cwd = fields.cwd,
    timeout = args.timeout or TIMEOUT, max = OUTPUT, op = op,
  }
  if not found then return { records = { { i = -1, status = 3, error = err.message } } } end
  return { records = { to_record(found) } }
end

return direct
