-- SPDX-License-Identifier: MIT
local test = require "exed.test"

local SHA <const> = ("0123456789"):rep(4)

-- Hosts on which releases are what the commands say: releases and what is live are kept by host, as
-- on disks, so that a kill of the node does not change them.
local function disks(fleet, live)
  local disk = setmetatable({}, { __index = function(self, name)
    self[name] = { live = live or "-", before = "-" }
    return self[name]
  end })
  local function verb(name, fn)
    fleet:answer { op = "execute", what = "sh -s -- " .. name .. " ", reply = function(host, fields)
      return fn(disk[host.name], table.move(fields.argv, 6, #fields.argv, 1, {}), host.name)
    end }
  end
  local function both(d)
    return { stdout = ("live: %s\nbefore: %s\n"):format(d.live, d.before) }
  end
  verb("resolve", function() return { stdout = SHA .. "\n" } end)
  verb("prepare", both)
  verb("look", both)
  verb("live", function(d) return { stdout = d.live .. "\n" } end)
  verb("switch", function(d, words)
    local to, from = words[1] ~= "" and words[1] or "-", words[2] ~= "" and words[2] or "-"
    if d.live == to then return {} end
    if d.live ~= from then return { status = "FAILED", rtc = 1, stderr = "who changed it?\n" } end
    d.live = to
    if words[3] == "new" then d.before = from end
    return {}
  end)
  return disk
end

local function args(more)
  local all = { appname = "shop", apptype = "archive", source = "/builds/{revision}.tar",
    revision = "v2", health = "true", after = "restart", before = "drain", size = 3,
    health_tries = 1 }
  for key, value in pairs(more or {}) do all[key] = value ~= "" and value or nil end
  return all
end

local function steps_of(result, host)
  local names = {}
  for _, step in ipairs(result.steps) do
    if step.host == host then names[#names + 1] = step.step end
  end
  return table.concat(names, " ")
end

-- A fleet of 12 on v1, on which hosts that a pattern names are not well with v2.
local function fleet_of_12(bad)
  local fleet = test.fleet { "web[01:12]" }
  local disk = disks(fleet, "v1")
  fleet:answer { op = "execute", host = bad or "none", what = "hook /srv/shop v2 true",
    status = "FAILED", rtc = 7, stderr = "starting\nno answer at port 80\n" }
  return fleet, disk
end

local function check(got, want)
  if got ~= want then error(("got %s, want %s"):format(got, want), 2) end
end

test.case("a release is made everywhere, then switched host by host", function()
  local fleet, disk = fleet_of_12()
  local result = fleet:run("code_release", { args = args() })
  check(result.state, 0)
  check(steps_of(result, "web07"), "prepare before switch after health prune")
  check(result.outcomes.web07.text, "v2 is live, before it was v1")
  check(disk.web07.live .. disk.web07.before, "v2v1")
  check(result.value.switched, 12)
  for i, step in ipairs(result.steps) do
    if i <= 12 then check(step.step, "prepare") end
    if step.step == "prepare" then
      check(step.what, "sh -s -- prepare /srv/shop archive /builds/v2.tar v2  0")
    end
  end
end)

test.case("the same revision changes nothing", function()
  local fleet, disk = fleet_of_12()
  disk.web05.live = "v0"
  for _, name in ipairs { "web01", "web02", "web03" } do disk[name].live = "v2" end
  local result = fleet:run("code_release", { args = args() })
  check(steps_of(result, "web01"), "prepare prune")
  check(result.outcomes.web01.status, "OK")
  check(result.outcomes.web05.text, "v2 is live, before it was v0")
end)

test.case("too many failed: all that were touched go back, each to what it had", function()
  local fleet, disk = fleet_of_12 "web06"
  disk.web02.live = "v0"
  local result = fleet:run("code_release", { args = args() })
  check(result.state, 2)
  check(result.error.message, "1 of 12 hosts failed, more than max_failed, 0")
  for name, d in pairs(disk) do
    check(name .. d.live, name .. (name == "web02" and "v0" or "v1"))
  end
  local why = "; 1 of 12 hosts failed, more than max_failed, 0"
  check(result.outcomes.web01.text, "gone back, v1 is live" .. why)
  check(result.outcomes.web01.status, "FAILED")
  check(result.outcomes.web02.text, "gone back, v0 is live" .. why)
  check(result.outcomes.web06.text,
    "gone back, v1 is live; health: no answer at port 80 (failed)")
  check(result.outcomes.web12.text, "not touched, v1 is live" .. why)
  check(result.outcomes.web12.status, "SKIPPED")
  check(steps_of(result, "web01"), "prepare before switch after health back after health live")
end)

test.case("a host that says nothing is not believed", function()
  local fleet, disk = fleet_of_12()
  fleet:answer { op = "execute", host = "web06", what = "prepare" }
  local result = fleet:run("code_release", { args = args { max_failed = 1 } })
  check(result.outcomes.web06.text,
    "not touched, v1 is live; the host did not say what is live")
  check(disk.web06.live .. disk.web07.live, "v1v2")
end)

test.case("what a host says is cut between characters", function()
  local fleet = fleet_of_12()
  for n = 0, 3 do
    fleet:answer { op = "execute", what = "prepare", status = "FAILED", rtc = 1,
      stderr = ("x"):rep(n) .. ("\u{20ac}"):rep(200) }
    local text = fleet:run("code_release", { args = args() }).outcomes.web01.text
    check(utf8.len(text) ~= nil and text:find("...", 1, true) ~= nil, true)
  end
end)

test.case("within max_failed only the host that failed goes back", function()
  local fleet, disk = fleet_of_12 "web06"
  local result = fleet:run("code_release", { args = args { max_failed = "10%" } })
  check(result.state, 2)
  check(result.error, nil)
  check(disk.web06.live .. disk.web07.live, "v1v2")
  check(result.outcomes.web06.text,
    "gone back, v1 is live; health: no answer at port 80 (failed)")
  check(result.outcomes.web07.status, "CHANGED")
end)

test.case("what cannot be prepared counts, and is not touched", function()
  local fleet, disk = fleet_of_12()
  fleet:answer { op = "execute", host = "web1*", what = "prepare", status = "FAILED", rtc = 1,
    stderr = "tar: short read\n" }
  local result = fleet:run("code_release", { args = args { max_failed = 2 } })
  check(result.error.message,
    "3 of 12 hosts failed before anything was switched, more than max_failed, 2")
  check(result.outcomes.web10.text, "not touched, v1 is live; tar: short read (failed)")
  check(disk.web01.live, "v1")
  result = fleet:run("code_release", { args = args { max_failed = 3 } })
  check(result.outcomes.web01.status .. result.outcomes.web12.status, "CHANGEDFAILED")
end)

test.case("a rollback goes to what was before, or to the one that is named", function()
  local fleet, disk = fleet_of_12()
  for i = 1, 12 do disk[("web%02d"):format(i)].before = i == 3 and "v0" or "v1" end
  for _, d in pairs(disk) do d.live = "v2" end
  local back = args { revision = "", rollback = true, source = "" }
  local result = fleet:run("code_release", { args = back })
  check(result.outcomes.web01.text, "v1 is live, before it was v2")
  check(result.outcomes.web03.text, "v0 is live, before it was v2")
  check(disk.web03.before, "v0")
  check(steps_of(result, "web03"), "look before switch after health")
  disk.web03.before = "-"
  for _, d in pairs(disk) do d.live = "v2" end
  result = fleet:run("code_release", { args = back })
  check(result.outcomes.web03.text, "not touched, v2 is live; there is no release before v2")
  result = fleet:run("code_release", {
    args = args { revision = "v9", rollback = true, source = "" },
  })
  check(result.outcomes.web03.text, "v9 is live, before it was v2")
end)

test.case("? asks, and changes nothing", function()
  local fleet, disk = fleet_of_12()
  disk.web02.live = "-"
  fleet:answer { op = "execute", host = "web03", what = "live", status = "UNREACHABLE" }
  local result = fleet:run("code_release", { args = args { revision = "?", source = "" } })
  check(result.outcomes.web01.text .. result.outcomes.web02.text, "v1-")
  check(result.outcomes.web01.status, "OK")
  check(result.outcomes.web03.status, "UNREACHABLE")
  check(#result.steps, 12)
end)

test.case("of a git repository the commit is what is released, the same on all hosts", function()
  local fleet, disk = fleet_of_12()
  fleet:answer { op = "execute", host = "web01", what = "resolve", status = "UNREACHABLE" }
  local result = fleet:run("code_release", { args = args {
    apptype = "git", source = "https://git.example.net/shop.git", revision = "feature/x" } })
  check(disk.web12.live, SHA)
  check(steps_of(result, "web02"), "resolve prepare before switch after health prune")
  check(steps_of(result, "web03"), "prepare before switch after health prune")
end)

test.case("what the node sends goes where it is missing", function()
  local fleet, disk = fleet_of_12()
  fleet:answer { op = "execute", what = "stage", reply = function(host)
    if host.name < "web03" then return {} end
    return { stdout = (host.name < "web08" and "/home/a" or "/home/b") .. "/.release/sent\n" }
  end }
  fleet:answer { op = "copy", host = "web05", status = "FAILED", error = "no space" }
  local result = fleet:run("code_release", {
    args = args { source = "node:shop-{revision}.tar", max_failed = 1 },
  })
  check(result.outcomes.web05.text, "not touched, v1 is live; no space")
  check(disk.web12.live .. disk.web01.live .. disk.web05.live, "v2v2v1")
  check(steps_of(result, "web01"), "stage prepare before switch after health prune")
  check(steps_of(result, "web04"), "stage send prepare before switch after health prune")
  local last
  for _, step in ipairs(result.steps) do
    if step.host == "web09" and step.step == "send" then last = step.what end
  end
  check(last, "/home/b/.release/sent")
end)

test.case("args that make no sense are told before anything is done", function()
  local fleet = fleet_of_12()
  for text, more in pairs {
    ["'revision' is missing"] = { revision = "" },
    ["'source' is missing"] = { source = "" },
    ["exclude each other"] = { revision = "?", rollback = true },
    ["without a /"] = { revision = "a/b" },
    ["no release can be called a/../b"] = { apptype = "git", revision = "a/../b" },
    ["no release can be called ?a"] = { revision = "?a" },
    ["must be an absolute path, an http"] = { source = "ssh://x/y" },
    ["must be an absolute path, or node:"] = { apptype = "directory", source = "relative" },
    ["'shared': a/../b has the part .."] = { shared = { "a/../b" } },
  } do
    local result = fleet:run("code_release", { args = args(more) })
    check(#result.steps, 0)
    if not result.error.message:find(text, 1, true) then error(result.error.message) end
  end
  for _, more in ipairs {
    { revision = "v1; rm -rf /" }, { revision = "../x" }, { revision = "-x" },
    { revision = "a b" }, { revision = "a?" }, { revision = "$(id)" },
    { revision = "v1\n" }, { appname = "../x" }, { appname = "-x" },
    { appname = "a/b" }, { source = "-x" }, { source = "/a b" }, { shared = { "/etc" } },
    { shared = { "-x" } }, { checksum = "abc" },
  } do
    check((pcall(fleet.run, fleet, "code_release", { args = args(more) })), false)
  end
end)

test.case("a cancel takes back the hosts that were at it, and says what is live", function()
  local fleet, disk = fleet_of_12()
  local result = fleet:run("code_release", { args = args(), cancel_at = 12 })
  check(result.error.code, "cancelled")
  for name, outcome in pairs(result.outcomes) do
    local want = outcome.status == "CHANGED" and "v2" or "v1"
    check(name .. disk[name].live, name .. want)
  end
end)

test.case("it survives the death of its node, when all is well", function()
  local fleet = test.fleet { "web[01:04]" }
  fleet:answer { op = "execute", what = "prepare", stdout = "live: v1\nbefore: v0\n" }
  fleet:survives("code_release", { args = args() }, function(result)
    check(result.state, 0)
    check(result.outcomes.web04.text, "v2 is live, before it was v1")
  end)
end)

test.case("it survives the death of its node, when all goes back", function()
  local fleet = test.fleet { "web[01:06]" }
  fleet:answer { op = "execute", what = "prepare", stdout = "live: v1\nbefore: v0\n" }
  fleet:answer { op = "execute", what = "live", stdout = "v1\n" }
  fleet:answer {
    op = "execute", host = "web04", what = "hook /srv/shop v2 true", status = "FAILED",
  }
  local told = fleet:survives("code_release", { args = args { size = 2 } }, function(result)
    check(result.state, 2)
    check(result.outcomes.web01.text:match "^[^;]+", "gone back, v1 is live")
    check(result.outcomes.web06.text:match "^[^;]+", "not touched, v1 is live")
  end)
  if told.runs < 3 or told.events < 50 then error "hardly anything was killed" end
end)
