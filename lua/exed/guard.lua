-- SPDX-License-Identifier: MIT
-- Runs a function in a fiber of its own, so that whatever it does (raise, loop, wait for ever) ends
-- with an answer to the caller.

local fiber = require "exed.fiber"
local timer = require "exed.timer"

local guard = {}

-- A fiber that ran out of its budget cannot say so: its end is looked for this often, in seconds.
local LOOK <const> = 0.5

local function explain(err)
  if type(err) == "table" then return err end
  return debug.traceback(tostring(err), 2)
end

-- Calls fn(...) and waits at most `limit` seconds. Returns true and what fn returned; or false and
-- an err: code "timeout", or "failed" with the raised text and its traceback as message. When the
-- caller's fiber is ended, so is the function's.
function guard.call(name, limit, fn, ...)
  local done, answer = fiber.event(), nil
  local handle, refused = fiber.spawn(name, function(...)
    answer = table.pack(xpcall(fn, explain, ...))
    done:notify()
  end, ...)
  if not handle then return false, refused end
  local _ <close> = setmetatable({}, {
    __close = function() handle:cancel "the request has ended" end,
  })
  local deadline = timer.now() + limit
  while not answer do
    if not handle:running() then
      return false, { code = "failed", message = name .. " was stopped, the log says why" }
    end
    local left = deadline - timer.now()
    if left <= 0 then
      return false, { code = "timeout", message = ("%s took more than %g s"):format(name, limit) }
    end
    done:wait(math.min(left, LOOK))
  end
  if answer[1] then return true, table.unpack(answer, 2, answer.n) end
  local err = answer[2]
  if type(err) == "table" then return false, err end
  return false, { code = "failed", message = err }
end

return guard
