-- SPDX-License-Identifier: MIT
-- The ssh executor: operations over SSH; hosts need nothing but a POSIX sh.

local copy = require "exed.ops.copy"
local deploy = require "exed.ops.deploy"
local facts = require "exed.ops.facts"
local fetch = require "exed.ops.fetch"
local service = require "exed.ops.service"

local operations = {}

-- A real login, nothing run: safe to repeat.
function operations.ping()
  return { transport = "ssh", verdict = { default = "OK" }, repeatable = true }
end

function operations.execute(request)
  return {
    transport = "ssh",
    command = request.args.command,
    verdict = { [0] = "CHANGED", default = "FAILED" },
  }
end

function operations.facter() return facts.plan("ssh") end

function operations.service(request) return service.plan("ssh", request.args) end

function operations.copy(request) return copy.plan("ssh", request.args) end

function operations.deploy(request) return deploy.plan("ssh", request.args) end

function operations.restore(request) return copy.restore("ssh", request.args) end

function operations.fetch(request) return fetch.plan("ssh", request.args) end

return {
  type = "executor",
  summary = "runs operations on hosts over SSH",
  settings = {},
  operations = operations,
}
