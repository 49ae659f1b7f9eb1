-- SPDX-License-Identifier: MIT
-- Restart a service a few hosts at a time: canary first, drained, checked, put back.
local each = require "exed.each"
local http = require "exed.http"

-- Whether the host does its work again.
local function is_healthy(host, args)
  if args.health then return host:execute(args.health, { step = "health", changes = false }).ok end
  local address = host.address:find ":" and "[" .. host.address .. "]" or host.address
  local answer = http.get(("http://%s:%d%s"):format(address, args.port, args.path))
  return answer and answer.status == 200
end

return {
  summary = "restart a service over a fleet without an outage",
  args = {
    service = { "string", required = true, match = "^[%w@._-]+$", help = "unit to restart" },
    size = { "count", default = "10%", help = "hosts at once" },
    max_failed = { "count", default = 0, help = "stop when more hosts than this have failed" },
    strict = { "boolean", default = false, help = "never let more than max_failed + 1 fail" },
    canary = { "count", default = 1, help = "hosts that go first and must all succeed" },
    settle = { "duration", default = "10s", help = "wait after each host before the next" },
    domain = { "string", default = "rack", help = "variable that names a failure domain" },
    per_domain = { "integer", min = 1, help = "hosts of one domain at once" },
    drain = { "command", default = "/usr/local/bin/lb drain", help = "command before" },
    restore = { "command", default = "/usr/local/bin/lb restore", help = "command after, always" },
    port = { "integer", default = 8080, min = 1, max = 65535, help = "the URL's; it must say 200" },
    path = { "string", default = "/health", match = "^/[^%s]*$", help = "of the URL" },
    health = { "command", help = "command on the host that must succeed, in place of the URL" },
    wait = { "duration", default = "2m", min = 1, help = "how long it may take to be healthy" },
  },
  run = function(job)
    local args = job.args
    each.window(job.hosts, {
      size = args.size, max_failed = args.max_failed, strict = args.strict, canary = args.canary,
      settle = args.settle, domain = args.domain, per_domain = args.per_domain,
    }, function(host)
      job:defer(function() host:execute(args.restore, { step = "restore" }) end)
      host:execute(args.drain, { step = "drain" })
      host:service { name = args.service, state = "restarted" }
      job:wait_until({ timeout = args.wait, every = "2s" }, function()
        return is_healthy(host, args)
      end)
    end)
  end,
}
