-- SPDX-License-Identifier: MIT
-- Records (what became of one operation on one host) and results (those of a set).

local hosts = require "exed.task.hosts"

local records = {}

local NAMES <const> = {
  [1] = "OK", [2] = "SKIPPED", [3] = "FAILED", [4] = "UNREACHABLE", [5] = "CHANGED",
}
records.NUMBERS = { OK = 1, SKIPPED = 2, FAILED = 3, UNREACHABLE = 4, CHANGED = 5 }

function records.is_ok(status) return status == "OK" or status == "CHANGED" end
function records.is_failed(status) return status == "FAILED" or status == "UNREACHABLE" end

-- Output that did not come with the record is fetched when it is asked for.
local record_meta = { __name = "record" }
function record_meta.__index(self, key)
  if key ~= "stdout" and key ~= "stderr" then return nil end
  local fetch = rawget(self, "fetch")
  local text = fetch and fetch(key) or ""
  rawset(self, key, text)
  return text
end
function record_meta.__tostring(self)
  return ("%s: %s%s"):format(self.host.name, self.status, self.error and ", " .. self.error or "")
end

-- A record of what an answer says of one host. given: status (number or name), and fields as in
-- TASKS; output(stream) gives what it left out.
function records.record(host, step, given, output)
  local status = NAMES[given.status] or given.status
  local record = {}
  for name, value in pairs(given) do record[name] = value end
  record.i, record.host, record.step, record.status = nil, host, step, status
  record.ok, record.failed = records.is_ok(status), records.is_failed(status)
  record.fetch = output
  return setmetatable(record, record_meta)
end

-- ---- results ------------------------------------------------------------------------------------

local result_methods = {}
records.methods = result_methods
-- The sets of hosts that results have, by what their records say.
records.FLAGS = {
  ok = function(record) return record.ok end,
  failed = function(record) return record.failed end,
  changed = function(record) return record.status == "CHANGED" end,
  unreachable = function(record) return record.status == "UNREACHABLE" end,
  skipped = function(record) return record.status == "SKIPPED" end,
}

-- results[host], results["name"], results.ok and its like; methods.
local result_meta = { __name = "results", __metatable = false }
function result_meta.__index(self, key)
  local flag = records.FLAGS[key]
  if flag then return self:where(flag) end
  return result_methods[key] or rawget(self, "by")[key]
end

-- The set of the hosts whose record fn(record) is true for.
function result_methods:where(fn)
  local list = {}
  for _, record in ipairs(self) do
    if fn(record) then list[#list + 1] = record.host end
  end
  return hosts.set(list, rawget(self, "world"))
end

-- Results of a list of records or outcomes, which it keeps, in the order of the list.
function records.results(list, world)
  local by = {}
  for _, record in ipairs(list) do
    by[record.host], by[record.host.name] = record, record
  end
  list.by, list.world = by, world
  return setmetatable(list, result_meta)
end

return records
