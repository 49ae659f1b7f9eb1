-- SPDX-License-Identifier: MIT
-- Errors of tasks: tables with code and message, and with host, record or results where there are
-- any. What the author wrote wrongly is a text with his file and line.

local fail = {}

local failure = { __name = "failure" }
failure.__index = failure
function failure:__tostring() return self.message end

-- A new error. code: failed, stopped, aborted, timeout, denied, cancelled, version_conflict, limit.
function fail.new(code, message, more)
  local err = setmetatable({ code = code, message = message }, failure)
  for _, name in ipairs { "host", "record", "results", "stopped" } do
    err[name] = more and more[name]
  end
  return err
end

-- Any raised value as such a table.
function fail.from(err)
  if getmetatable(err) == failure then return err end
  if type(err) == "table" and err.message ~= nil then
    return fail.new(err.code or "error", tostring(err.message), err)
  end
  return fail.new("error", tostring(err))
end

function fail.is(err, code)
  return getmetatable(err) == failure and (not code or err.code == code)
end

local function is_ours(source)
  return source:find "^=exed%." or source:find "/lua/exed/" or source:find "^=%["
end

-- Raises a text that begins with the author's file and line: the nearest caller that is not ours.
function fail.usage(format, ...)
  local text = select("#", ...) > 0 and format:format(...) or format
  for level = 2, 30 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.currentline > 0 and not is_ours(info.source) then
      error(("%s:%d: %s"):format(info.short_src, info.currentline, text), 0)
    end
  end
  error(text, 0)
end

return fail
