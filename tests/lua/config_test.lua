-- SPDX-License-Identifier: MIT
-- Tests of exed.config, with the defaults: there is no exed.conf where the tests run.

local config = require "exed.config"
local t = require "support"
local test = t.test

test("values have their Lua types and units", function()
  t.eq(config.ssh.window, 500)
  t.eq(config.ssh.keep, 60)
  t.eq(config.store.output_cap, 1 << 20)
  t.eq(config.api.open, false)
  t.eq(config.runner.redis_url, "embedded")
  t.eq(config.ssh.command_timeout.execute, 0)
  t.eq(config.ssh.command_timeout.deploy, 3600)
end)

test("what is unset is nil", function()
  assert(config.api.pid_file == nil)
  assert(config.ssh.user == nil)
end)

test("lists work like lists", function()
  t.eq(#config.api.dialects, 1)
  t.eq(table.concat(config.api.dialects, ","), "exed")
  for i, name in ipairs(config.api.dialects) do t.eq({ i, name }, { 1, "exed" }) end
  t.eq(#config.ssh.key, 0)
  local listener = config.api.listen[1]
  t.eq({ listener.address, listener.port, listener.dialects[1] }, { "127.0.0.1", 16808, "exed" })
end)

test("a name that does not exist raises", function()
  t.raises(function() return config.ssh.windw end, "there is no setting 'windw'")
  t.raises(function() return config.shs end, "there is no section 'shs'")
  t.raises(function() return config.ssh[1] end, "there is no setting '1'")
end)

test("an executor has a section or none", function()
  assert(config["executor nobody"] == nil)
  t.raises(function() return config.executor end, "there is no section 'executor'")
end)

test("nothing can be changed", function()
  t.raises(function() config.ssh.window = 1 end, "read-only")
  t.raises(function() config.new = 1 end, "read-only")
  t.raises(function() config.api.dialects[1] = "x" end, "read-only")
  t.raises(function() config.api.listen[1].port = 1 end, "read-only")
  t.eq(getmetatable(config), false)
  t.raises(function() setmetatable(config.ssh, {}) end, "protected metatable")
end)

test("pairs goes over all that is set", function()
  local found = {}
  for section, settings in pairs(config) do
    for key in pairs(settings) do found[section .. "." .. key] = true end
  end
  assert(found["ssh.window"] and found["tasks.memory"] and not found["ssh.user"])
end)

t.done()
