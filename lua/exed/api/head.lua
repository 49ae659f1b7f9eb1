-- SPDX-License-Identifier: MIT
-- What is judged of a request by its head alone: its method, Host, origin and who asks. `self` is
-- the API; nothing here waits.

local checks = require "exed.api.checks"
local router = require "exed.api.router"
local socket = require "exed.api.socket"

local head = {}

-- Clients name the same Host each time, so the last good one is not looked at again. That of a unix
-- socket is never judged, so it says nothing.
local function check_host(self, req)
  local host = req.host
  if host and host == self.known_host then return true end
  local ok, err = checks.host(req, self.allowed)
  if ok and req.peer ~= "unix" then self.known_host = host end
  return ok, err
end

-- Who asks, and whether for a WebSocket; or nil, err.
local function check_caller(req, method)
  local upgrade, site, origin = req:header("upgrade", "sec-fetch-site", "origin")
  local opens, err = false, nil
  if upgrade and method.socket then opens, err = socket.asked(req, upgrade) end
  if opens == nil then return nil, err end
  -- Browsers let a page of any site open a WebSocket, and read it.
  local ok
  ok, err = checks.origin(req, site, origin, method.changes or opens)
  if not ok then return nil, err end
  local who
  who, err = checks.who(req)
  if not who then return nil, err end
  req:note(who)
  return who, opens
end

-- name: the request's method; handler: that of its path, or nil. Returns the handler's method (true
-- for OPTIONS), who asks, and whether for a WebSocket; or nil, err.
function head.judge(self, req, name, handler)
  local method = handler and handler.methods[name == "HEAD" and "GET" or name]
  if handler and not method and name ~= "OPTIONS" then
    return nil, {
      code = 405, message = ("%s is not for %s"):format(name, req.path),
      headers = { Allow = router.allow(handler) },
    }
  end
  local ok, err = check_host(self, req)
  if not ok then return nil, err end
  if not handler then return nil, { code = "not_found", message = "no such path " .. req.path } end
  if name == "OPTIONS" then return true end
  local who, upgrade = check_caller(req, method)
  if not who then return nil, upgrade end
  return method, who, upgrade
end

-- The err of a request whose body is still to come, when that need not be waited for.
function head.refusal(self, req, handler)
  local method, err = head.judge(self, req, req.method, handler)
  if not method then return err end
  -- An empty body needs no type, and whether one in chunks is empty is not known yet.
  local typed = req:header "content-length" or req:header "content-type"
  if method == true or not typed then return nil end
  return select(2, checks.kind(req))
end

return head
