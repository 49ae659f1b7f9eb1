-- SPDX-License-Identifier: MIT
-- What is asked of every request before its handler sees it: the Host that it names, where a
-- browser got it from, who sends it, and that its body is JSON. Each returns true or a value, or
-- nil and an err.

local json = require "exed.json"
local sys = require "exed.sys"
local text = require "exed.text"
local words = require "exed.words"

local checks = {}

local function fail(code, message, ...)
  return nil, { code = code, message = message:format(...) }
end

-- ---- Host ---------------------------------------------------------------------------------------

local function is_loopback(address)
  return address == "localhost" or address == "::1" or address:find "^127%." ~= nil
end

-- "[::1]:80" -> "::1", "web01.:80" -> "web01"
local function bare_host(host)
  local name = host:match "^%[(.*)%]" or host:match "^([^:]*):?%d*$" or host
  return (name:lower():gsub("%.$", ""))
end

-- The names that a Host header may have: a set.
function checks.allowed_hosts(config)
  local allowed = {}
  if config.allowed_hosts and #config.allowed_hosts > 0 then
    for _, name in ipairs(config.allowed_hosts) do allowed[bare_host(name)] = true end
    return allowed
  end
  allowed.localhost = true
  for _, listener in ipairs(config.listen) do
    allowed[bare_host(listener.address)] = true
    if not is_loopback(listener.address) then
      for _, address in ipairs(sys.addresses()) do allowed[address] = true end
      allowed[bare_host(sys.hostname())] = true
    end
  end
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

-- Refuses what a page of another site asks for. Looking at something by following a link to it is
-- allowed: the page that has the link does not get the answer.
function checks.origin(req, changes)
  local site = req.headers["sec-fetch-site"]
  if site then
    if site == "same-origin" or site == "none" then return true end
    local follows = req.headers["sec-fetch-mode"] == "navigate"
      and req.headers["sec-fetch-dest"] == "document"
    if follows and not changes then return true end
    return fail(403, "a page of another site may not ask for this")
  end
  local origin = req.headers.origin
  if not origin or same_origin(origin, req.host or "") then return true end
  return fail(403, "a page of %s may not ask for this", origin)
end

-- ---- who ----------------------------------------------------------------------------------------

-- The bearer tokens of a file, by their SHA-256; nil without a file. Raises when it cannot be read:
-- a server must not start open by mistake.
function checks.read_tokens(path)
  if not path or path == "" then return nil end
  local tokens = {}
  for line in io.lines(path) do
    local token = line:match "^%s*(.-)%s*$"
    if token ~= "" and not token:find "^#" then tokens[text.sha256(token)] = true end
  end
  if not next(tokens) then error(path .. ": has no token", 0) end
  return tokens
end

-- Who asks, for the job's record: a text.
function checks.who(req, tokens)
  if req.peer == "unix" then return "local" end
  if not tokens then return (req.peer:gsub(":%d+$", "")) end
  local given = (req.headers.authorization or ""):match "^[bB]earer +(%S+)$"
  local hash = given and text.sha256(given)
  if hash and tokens[hash] then return "token " .. hash:sub(1, 8) end
  return nil, {
    code = "unauthorized", message = "a bearer token is needed",
    headers = { ["WWW-Authenticate"] = "Bearer" },
  }
end

-- ---- bodies -------------------------------------------------------------------------------------

-- Whether a body with these fields may be left out.
local function may_be_empty(checker)
  for _, field in ipairs(checker.fields) do
    if field.required then return false end
  end
  return true
end

-- The body's JSON object, decoded; max: of values in it. A checker that is nil wants no body.
function checks.body(req, checker, max)
  if req.body == "" then
    if not checker or may_be_empty(checker) then return {} end
    return fail(400, "missing body")
  end
  local kind = (req.headers["content-type"] or ""):lower():match "^%s*([^%s;]*)"
  if kind ~= "application/json" then
    return fail(415, "the body's Content-Type must be application/json")
  end
  local document, err = json.decode(req.body, max)
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

-- The targets of a request are judged before its other fields: given, then known.
function checks.targets(inventory, checker, input, kind)
  local field = checker.by_name.targets
  if not field or not field.first or field.type ~= "hosts" then return true end
  local targets, err = checker:field("targets", input, kind)
  if err then return nil, err end
  local found, _, wrong = inventory:resolve(targets)
  if not found then return nil, wrong end
  if #found == 0 then return fail("not_found", "no hosts match that target") end
  return true
end

return checks
