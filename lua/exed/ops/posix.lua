-- SPDX-License-Identifier: MIT
-- The operations that need nothing on a host but a POSIX sh, over a transport that runs one there.

local copy = require "exed.ops.copy"
local deploy = require "exed.ops.deploy"
local facts = require "exed.ops.facts"
local fetch = require "exed.ops.fetch"
local service = require "exed.ops.service"

-- The operations of an executor. transport: "ssh" or "local".
return function(transport)
  local operations = {}

  -- A real login, nothing run: safe to repeat.
  function operations.ping()
    return { transport = transport, verdict = { default = "OK" }, repeatable = true }
  end

  function operations.execute(request)
    return {
      transport = transport,
      command = request.args.command,
      verdict = { [0] = "CHANGED", default = "FAILED" },
    }
  end

  function operations.facter() return facts.plan(transport) end

  function operations.service(request) return service.plan(transport, request.args) end

  function operations.copy(request) return copy.plan(transport, request.args) end

  function operations.deploy(request) return deploy.plan(transport, request.args) end

  function operations.restore(request) return copy.restore(transport, request.args) end

  function operations.fetch(request) return fetch.plan(transport, request.args) end

  return operations
end
