-- SPDX-License-Identifier: MIT
-- What is asked of every request before its handler sees it: the Host that it names, where a
-- browser got it from, who sends it, and that its body is JSON. Each returns true or a value, or
-- nil and an err.

local access = require "exed.access"
local fiber = require "exed.fiber"
local json = require "exed.json"
local proc = require "exed.proc"
local sys = require "exed.sys"
local timer = require "exed.timer"
local words = require "exed.words"

local checks = {}

local JSON <const> = "application/json"
local MANY <const> = 2000 -- targets that are read one by one
local FQDN_LIMIT <const> = 30 -- seconds for the look-up of this machine's own name

local function fail(code, message, ...)
  return nil, { code = code, message = message:format(...) }
end

-- ---- Host ---------------------------------------------------------------------------------------

local function is_loopback(address)
  return address == "localhost" or address == "::1" or address:find "^127%." ~= nil
end

-- This machine's name with its domain, or nil. Asked of a program, since looking it up blocks.
local function find_fqdn()
  local done = proc.run { argv = { "getent", "hosts", sys.hostname() }, timeout = FQDN_LIMIT }
  return done and done.stdout:match "^%S+%s+(%S+)"
end

-- "[::1]:80" -> "::1", "web01.:80" -> "web01"
local function bare_host(host)
  local name = host:match "^%[(.*)%]" or host:match "^([^:]*):?%d*$" or host
  return (name:lower():gsub("%.$", ""))
end

-- The names that a Host header may have: a set. On a listener that is not loopback this machine's
-- full name comes into it as soon as it is found.
function checks.allowed_hosts(config)
  local allowed = {}
  if config.allowed_hosts and #config.allowed_hosts > 0 then
    for _, name in ipairs(config.allowed_hosts) do allowed[bare_host(name)] = true end
    return allowed
  end
  allowed.localhost = true
  local far = false
  for _, listener in ipairs(config.listen) do
    if not listener.address:find "^unix:" then
      allowed[bare_host(listener.address)] = true
      far = far or not is_loopback(listener.address)
    end
  end
  if not far then return allowed end
  for _, address in ipairs(sys.addresses()) do allowed[address] = true end
  allowed[bare_host(sys.hostname())] = true
  fiber.spawn("fqdn", function()
    local name = find_fqdn()
    if name then allowed[bare_host(name)] = true end
  end)
  return allowed
end

-- A page of somebody's browser must not reach exed by a name that it made up for its address.
function checks.host(req, allowed)
  if req.peer == "unix" or not req.host or req.host == "" then return true end
  if allowed[bare_host(req.host)] then return true end
  return fail(421, "Host %s is not one of this server's: see allowed_hosts in [api]", req.host)
end

-- ---- browsers -----------------------------------------------------------------------------------

local function same_origin(origin, host)
  local scheme, rest = origin:lower():match "^(%a+)://(.*)$"
  if not scheme then return false end
  local port = scheme == "https" and ":443" or ":80"
  host = host:lower()
  return rest == host or rest .. port == host or rest == host .. port
end

-- Refuses what a page of another site asks for, by these headers. Looking at something by following
-- a link to it is allowed: the page that has the link does not get the answer.
function checks.origin(req, site, origin, changes)
  if site then
    if site == "same-origin" or site == "none" then return true end
    local follows = req:header "sec-fetch-mode" == "navigate"
      and req:header "sec-fetch-dest" == "document"
    if follows and not changes then return true end
    return fail(403, "a page of another site may not ask for this")
  end
  if not origin or same_origin(origin, req.host or "") then return true end
  return fail(403, "a page of %s may not ask for this", origin)
end

-- ---- who ----------------------------------------------------------------------------------------

local function unauthorized(message, challenge)
  return nil, {
    code = "unauthorized", message = message, headers = { ["WWW-Authenticate"] = challenge },
  }
end

-- Who asks, for logs, jobs and leases: the name of the bearer token, else that in the client's
-- certificate, else the address; "local" over a unix socket, which the file system guards.
function checks.who(req)
  if req.peer == "unix" then return "local" end
  if not access.asks() then return req.certificate or req.address end
  local given = req:header "authorization"
  if not given then return unauthorized("a bearer token is needed", "Bearer") end
  local token = given:match "^[bB][eE][aA][rR][eE][rR] +(%S+) *$"
  local name = token and access.name(token)
  if name then return name end
  return unauthorized("this bearer token is not known", 'Bearer error="invalid_token"')
end

-- ---- bodies -------------------------------------------------------------------------------------

-- That a body which is not empty says to be JSON: a page of another site cannot send that unasked.
function checks.kind(req)
  local kind = req:header "content-type" or ""
  if kind == JSON or kind:lower():match "^%s*([^%s;]*)" == JSON then return true end
  return fail(415, "the body's Content-Type must be application/json")
end

-- The body's JSON object, decoded; max: of values in it. A checker that is nil wants no body.
function checks.body(req, checker, max)
  local body = req.body
  if body == "" then
    if not checker or not checker.needs_some then return {} end
    return fail(400, "missing body")
  end
  local ok, wrong = checks.kind(req)
  if not ok then return nil, wrong end
  local document, err = json.decode(body, max)
  if document == nil and err.code == "memory" then return nil, err end
  if document == nil then return fail(400, "Invalid JSON document: %s", err.message) end
  if type(document) ~= "table" or json.is_array(document) then
    return fail(400, "a JSON object is wanted as body")
  end
  local extra = not checker and next(document)
  if extra then
    return fail(400, "unknown field %s (%s takes no body)", words.show(extra), req.method)
  end
  return document
end

-- The targets of a request are judged before its other fields: given, then known. Returns them and
-- what they name ({ inventory, targets, found, unknown }), or true when it has none; or nil, err.
function checks.targets(inventory, checker, input, kind)
  local field = checker.by_name.targets
  if not field or not field.first or field.type ~= "hosts" then return true end
  local targets, err = checker:field("targets", input, kind)
  if err then return nil, err end
  if #targets >= MANY then timer.sleep(0) end -- as long as reading them takes what comes now
  local found, wrong = inventory:resolve(targets)
  if not found then return nil, wrong end
  if #found == 0 then return fail("not_found", "no hosts match that target") end
  return targets, { inventory = inventory, targets = targets, found = found, unknown = wrong }
end

return checks
