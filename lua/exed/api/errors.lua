-- SPDX-License-Identifier: MIT
-- Errors as clients get them: an err's code becomes a status, the dialect gives the body's shape.

local errors = {}

local STATUS <const> = {
  bad_request = 400, not_implemented = 400, unauthorized = 401, forbidden = 403, not_found = 404,
  gone = 404, conflict = 409, ended = 409, running = 409, stopped = 409, trimmed = 410,
  mismatch = 422, full = 503, away = 503, unreachable = 503, timeout = 503, limit = 503,
  closed = 503, unavailable = 503, accepting = 503,
  memory = 503, stale = 503, leaving = 503,
  -- Redis's own words: full, read-only, cannot write to its disk, loading, busy with a function.
  oom = 503, readonly = 503, misconf = 503, loading = 503, busy = 503, masterdown = 503,
  noreplicas = 503,
}

local RETRY_SECONDS <const> = "2" -- the embedded store is back by then

local function store_away(err, trouble)
  return "the job store is away: " .. (trouble or err.message)
end

local TEXT <const> = {
  full = function(err) return "store full: " .. err.message end,
  away = store_away, unreachable = store_away, timeout = store_away, limit = store_away,
  closed = store_away, readonly = store_away, misconf = store_away, loading = store_away,
  busy = store_away, masterdown = store_away, noreplicas = store_away,
  oom = function(err) return "store full: " .. err.message end,
  leaving = function() return "the node ends before the job has; ask for the job by its jid" end,
  stale = function() return "the node is registering anew with the job store" end,
  accepting = function(err)
    return "the first request with this Idempotency-Key is being accepted, jid " .. err.message
  end,
  mismatch = function(err)
    return "this Idempotency-Key was used with another body, jid " .. err.message
  end,
}

local SHAPES <const> = {
  exed = function(err, message)
    return { message = message, holders = err.holders, jid = err.jid }
  end,
}

-- err: code (a word above, or a status), message, and what the dialect shows besides. node: says
-- what is wrong with the store, where it knows more. Returns a status, a table for the body, and
-- headers. A code that is not known is a mistake of exed: 500.
function errors.answer(dialect, err, node)
  local status = math.tointeger(err.code) or STATUS[err.code] or 500
  local message = status == 500 and "internal error" or tostring(err.message or err.code)
  if TEXT[err.code] then message = TEXT[err.code](err, node:store_trouble()) end
  local headers = err.headers or {}
  if status == 503 then headers["Retry-After"] = RETRY_SECONDS end
  local shape = SHAPES[dialect] or SHAPES.exed
  return status, shape(err, message), headers
end

return errors
