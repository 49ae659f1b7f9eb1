-- SPDX-License-Identifier: MIT
local test = require "exed.test"

local NGINX <const> = { service = "nginx", size = 3 }

-- How often each host was drained and not put back.
local function left_drained(result)
  local left = {}
  for _, step in ipairs(result.steps) do
    local change = step.step == "drain" and 1 or step.step == "restore" and -1 or 0
    left[step.host] = (left[step.host] or 0) + change
  end
  for host, count in pairs(left) do
    if count ~= 0 then return host end
  end
end

local function racks(name) return { rack = "r" .. tonumber(name:match "%d+") % 3 } end

local function what_of(result, host)
  local list = {}
  for _, step in ipairs(result.steps) do
    if step.host == host then list[#list + 1] = step.step or step.what end
  end
  return table.concat(list, ", ")
end

test.case("each host is drained, restarted, looked at and put back", function()
  local result = test.fleet({ "web[01:12]" }):run("rolling_restart", { args = NGINX })
  assert(result.state == 0 and not left_drained(result))
  assert(what_of(result, "web07") == "drain, nginx restarted, restore", what_of(result, "web07"))
  assert(result.outcomes.web12.status == "CHANGED")
end)

test.case("the first one goes alone; when it fails, no other is touched", function()
  local fleet = test.fleet { "web[01:12]" }
  fleet:answer { op = "service", host = "web01", status = "FAILED", error = "unit failed" }
  local result = fleet:run("rolling_restart", { args = { service = "nginx", max_failed = 5 } })
  assert(result.state == 2 and not left_drained(result))
  for _, step in ipairs(result.steps) do assert(step.host == "web01") end
end)

test.case("a host that does not become healthy is put back, and is the last one", function()
  local fleet = test.fleet { "web[01:12]", vars = racks }
  fleet:http("//web06:8080/health$", { status = 503 })
  local result = fleet:run("rolling_restart", { args = { service = "nginx" } })
  assert(result.outcomes.web06.status == "FAILED" and not left_drained(result))
  assert(result.outcomes.web06.text:find "2 m" or result.outcomes.web06.text:find "120")
end)

test.case("health may be another path, or a command of the host", function()
  local fleet = test.fleet { "web[01:02]" }
  fleet:http(":80/ok$", { status = 200 })
  fleet:http(":8080/", { status = 404 })
  local args = { service = "nginx", port = 80, path = "/ok" }
  assert(fleet:run("rolling_restart", { args = args }).state == 0)
  fleet:answer { op = "execute", what = "check-web", times = 3, status = "FAILED" }
  args = { service = "nginx", health = "check-web" }
  local result = fleet:run("rolling_restart", { args = args })
  assert(result.state == 0 and what_of(result, "web01"):find "health, health, health, health")
end)

test.case("no two hosts of a rack at once", function()
  local fleet, now = test.fleet { "web[01:12]", vars = racks }, {}
  local args = { service = "nginx", size = 6, per_domain = 1 }
  for _, step in ipairs(fleet:run("rolling_restart", { args = args }).steps) do
    local rack = step.host ~= "" and racks(step.host).rack
    if step.step == "drain" then
      assert(not now[rack])
      now[rack] = true
    elseif step.step == "restore" then
      now[rack] = nil
    end
  end
end)

test.case("no host is left drained when the node dies", function()
  local fleet = test.fleet { "web[01:12]", vars = racks }
  fleet:answer { op = "service", host = "web06", status = "FAILED", error = "unit failed" }
  fleet:survives("rolling_restart", { args = NGINX }, function(result)
    assert(result.outcomes.web06.status == "FAILED" and not left_drained(result))
  end)
end)
