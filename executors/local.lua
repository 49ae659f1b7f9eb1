-- SPDX-License-Identifier: MIT
-- The local executor: operations on the node itself, once for each target; for hosts that the node
-- stands for, and for trying things out.

local copy = require "exed.ops.copy"
local deploy = require "exed.ops.deploy"
local facts = require "exed.ops.facts"
local fetch = require "exed.ops.fetch"
local service = require "exed.ops.service"

local operations = {}

function operations.ping()
  return { transport = "local", verdict = { default = "OK" }, repeatable = true }
end

function operations.execute(request)
  return {
    transport = "local",
    command = request.args.command,
    verdict = { [0] = "CHANGED", default = "FAILED" },
  }
end

function operations.facter() return facts.plan("local") end

function operations.service(request) return service.plan("local", request.args) end

function operations.copy(request) return copy.plan("local", request.args) end

function operations.deploy(request) return deploy.plan("local", request.args) end

function operations.restore(request) return copy.restore("local", request.args) end

function operations.fetch(request) return fetch.plan("local", request.args) end

return {
  type = "executor",
  summary = "runs operations on the node itself, once for each target",
  settings = {},
  operations = operations,
}
