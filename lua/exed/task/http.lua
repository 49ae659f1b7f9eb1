-- SPDX-License-Identifier: MIT
-- exed.http for tasks: each request is an effect, which the node does.

local counts = require "exed.task.counts"
local fail = require "exed.task.fail"
local schema = require "exed.schema"

local OPTIONS <const> = schema.compile({
  timeout = { "duration", min = 0.001, default = 30 },
  retries = { "integer", min = 0, max = 100, default = 0 }, delay = { "duration", default = 2 },
  repeatable = { "boolean" },
  headers = { "object" }, body = { "string" }, -- read by hand; declared to be known by name
}, { lua = true })
local MAX_DELAY <const> = 60 -- seconds

local function read_headers(given)
  local headers = {}
  for name, value in pairs(given or {}) do
    if type(name) ~= "string" or not name:find "^[%w!#$%%&'*+.^_`|~-]+$" then
      fail.usage("http: '%s' is no name of a header", tostring(name))
    end
    local handle = type(value) == "table" and rawget(value, "secret")
    if not handle and tostring(value):find "[\r\n\0]" then
      fail.usage("http: the header %s has a line break or a NUL", name)
    end
    headers[name] = handle and { secret = handle } or tostring(value)
  end
  return headers
end

local function read(method, url, given)
  if type(url) ~= "string" or not url:find "^[hH][tT][tT][pP][sS]?://[^/%s%c][^%s%c]*$" then
    fail.usage("http: a URL that begins with http:// or https:// is wanted, got %s", tostring(url))
  end
  local rest, headers, body = {}, {}, nil
  for name, value in pairs(given or {}) do
    if name == "headers" then
      headers = read_headers(value)
    elseif name == "body" then
      body = type(value) == "table" and { secret = rawget(value, "secret") } or tostring(value)
    else
      rest[name] = value
    end
  end
  local options = counts.options(OPTIONS, rest, "http")
  local looks = method == "GET" or method == "HEAD"
  return {
    method = method, url = url, headers = headers, body = body, timeout = options.timeout,
    repeatable = looks or options.repeatable or false,
  }, options
end

-- Returns the answer, or nil, err when there was none.
local function request(rt, method, url, given)
  local args, options = read(method, url, given)
  local pause = options.delay
  for try = 1, options.retries + 1 do
    args.try = try
    local answer = rt:ask("http", args)
    if answer.response then return answer.response end
    if try > options.retries then
      local failed = answer.failed or {}
      return nil, fail.new(failed.code or "failed", failed.message or "no answer")
    end
    rt:sleep(math.min(pause, MAX_DELAY))
    pause = pause * 2
  end
end

-- The module for one runtime.
return function(rt)
  return {
    get = function(url, options) return request(rt, "GET", url, options) end,
    post = function(url, options) return request(rt, "POST", url, options) end,
    request = function(method, url, options)
      if type(method) ~= "string" or not method:find "^%u+$" then
        fail.usage "http.request wants a method such as PUT first"
      end
      return request(rt, method, url, options)
    end,
  }
end
