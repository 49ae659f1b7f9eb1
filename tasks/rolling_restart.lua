-- SPDX-License-Identifier: MIT
-- Restart a service a few hosts at a time: canary first, drained, checked, put back.
local each = require "exed.each"
local http = require "exed.http"

return {
  summary = "restart a service over a fleet without an outage",
  args = {
    service = { "string", required = true, match = "^[%w@._-]+$", help = "unit to restart" },
    size = { "count", default = "10%", help = "hosts at once" },
    max_failed = { "count", default = 0, help = "stop when more hosts than this have failed" },
    canary = { "count", default = 1, help = "hosts that go first and must all succeed" },
    settle = { "duration", default = "10s", help = "wait after each host before the next" },
    drain = { "string", default = "/usr/local/bin/lb drain", help = "command before" },
    restore = { "string", default = "/usr/local/bin/lb restore", help = "command after, always" },
    port = { "integer", default = 8080, min = 1, max = 65535, help = "where /health answers" },
  },
  run = function(job)
    local args = job.args
    each.window(job.hosts, {
      size = args.size, max_failed = args.max_failed, canary = args.canary,
      settle = args.settle, domain = "rack",
    }, function(host)
      job:defer(function() host:execute(args.restore) end)
      host:execute(args.drain)
      host:service { name = args.service, state = "restarted" }
      job:wait_until({ timeout = "2m", every = "2s" }, function()
        local answer = http.get("http://" .. host.address .. ":" .. args.port .. "/health")
        return answer and answer.status == 200
      end)
    end)
  end,
}
