-- SPDX-License-Identifier: MIT
-- What /metrics tells, in Prometheus' text format 0.0.4: numbers of the HTTP API, kept here; of the
-- node and its store, asked for when somebody looks; and of the C side, by exed.metrics. Labels
-- are paths of handlers, methods and status codes: never what a client sent.
--
--   local mine = numbers.new()
--   local call <close> = mine:call(handler, method)     one request, from its head to its answer
--   call.status = 200     call:answered()               at the first byte of an answer that streams
--   numbers.write(node, out)                            all there is; waits for the store

local metrics = require "exed.metrics"
local timer = require "exed.timer"
local words = require "exed.words"

local numbers = {}
numbers.__index = numbers

local BOUNDS <const> = { 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 }
local METHODS <const> = {
  GET = true, HEAD = true, POST = true, PUT = true, DELETE = true, PATCH = true, OPTIONS = true,
}
local GONE <const> = "gone" -- the client left before its answer, or in the middle of it

local call = {}
call.__index = call

-- paths: what was counted, by the handler's path as it stands in a label.
function numbers.new() return setmetatable({ paths = {}, labels = {} }, numbers) end

local function new_path(self, path)
  local label = path:gsub('[\\"%c]', "_")
  local counts = self.labels[label]
  if not counts then
    counts = { answers = {}, count = 0, sum = 0.0 }
    for i = 1, #BOUNDS do counts[i] = 0 end
    self.labels[label] = counts
  end
  self.paths[path] = counts
  return counts
end

-- A request to a handler; nil for none. Its end is counted when the variable is closed.
function numbers:call(handler, method)
  local path = handler and handler.path or "none"
  return setmetatable({
    counts = self.paths[path] or new_path(self, path),
    method = METHODS[method] and method or "other", began = timer.wall(), status = GONE,
    seconds = false,
  }, call)
end

function call:answered()
  if self.seconds then return end
  local seconds = timer.wall() - self.began
  self.seconds = seconds > 0 and seconds or 0 -- somebody may have set the clock back
end

-- Counts in the first bucket that is wide enough; they are summed up when they are written.
local function observe(counts, seconds)
  for i = 1, #BOUNDS do
    if seconds <= BOUNDS[i] then
      counts[i] = counts[i] + 1
      break
    end
  end
  counts.count, counts.sum = counts.count + 1, counts.sum + seconds
end

call.__close = function(self)
  self:answered()
  local answers = self.counts.answers
  local by_status = answers[self.method]
  if not by_status then
    by_status = {}
    answers[self.method] = by_status
  end
  by_status[self.status] = (by_status[self.status] or 0) + 1
  observe(self.counts, self.seconds)
end

-- ---- writing ------------------------------------------------------------------------------------

local function head(out, name, kind, help)
  out:write("# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n")
end

-- One number, or a list of { label, number }; nothing for nil.
local function put(out, name, kind, help, value)
  if value == nil then return end
  head(out, name, kind, help)
  if type(value) ~= "table" then
    out:write(name, " ", tostring(value), "\n")
    return
  end
  for _, row in ipairs(value) do
    out:write(name, "{", row[1], "} ", tostring(row[2]), "\n")
  end
end

local function write_times(out, path, counts)
  local name <const>, within = "exed_http_request_seconds", 0
  for i, bound in ipairs(BOUNDS) do
    within = within + counts[i]
    out:write(('%s_bucket{handler="%s",le="%g"} %d\n'):format(name, path, bound, within))
  end
  out:write(('%s_bucket{handler="%s",le="+Inf"} %d\n'):format(name, path, counts.count),
    ('%s_sum{handler="%s"} %.6f\n'):format(name, path, counts.sum),
    ('%s_count{handler="%s"} %d\n'):format(name, path, counts.count))
end

-- { label, number } for each handler, method and status, in the order of the labels.
local function answered_rows(labels)
  local numbers_of = {}
  for path, counts in pairs(labels) do
    for method, by_status in pairs(counts.answers) do
      for status, number in pairs(by_status) do
        numbers_of[('handler="%s",method="%s",status="%s"'):format(path, method, status)] = number
      end
    end
  end
  local rows = {}
  for i, label in ipairs(words.keys(numbers_of)) do rows[i] = { label, numbers_of[label] } end
  return rows
end

-- The API's requests, and what the server refused before there was a request.
local function write_http(api, out)
  local mine, counts = api.numbers, api.server:counts()
  local rows = answered_rows(mine.labels)
  if #rows > 0 then
    put(out, "exed_http_requests_total", "counter",
      "Requests answered, by the handler's path.", rows)
    head(out, "exed_http_request_seconds", "histogram",
      "From a request's head to its answer, or to the first byte of one that streams.")
    for _, path in ipairs(words.keys(mine.labels)) do
      if mine.labels[path].count > 0 then write_times(out, path, mine.labels[path]) end
    end
  end
  put(out, "exed_http_connections", "gauge", "Connections of clients.", counts.connections)
  put(out, "exed_http_open_requests", "gauge", "Requests without a whole answer.", counts.open)
  put(out, "exed_http_accepted_total", "counter", "Connections accepted.", counts.accepted)
  put(out, "exed_http_refused_total", "counter", "Connections closed at a limit.", counts.refused)
  put(out, "exed_http_bad_requests_total", "counter",
    "Requests refused before a handler was looked for.", counts.bad)
end

-- What only the store knows; left out while it cannot be asked.
local function write_store(node, out)
  put(out, "exed_store_up", "gauge", "Whether the store answers this node.",
    node:store_error() and 0 or 1)
  local found = node.conn:up() and node.store:call "ready"
  if not found then return end
  local slices, memory, started, ended, accepting = table.unpack(found)
  put(out, "exed_store_durable", "gauge", "Whether every acknowledged write is on disk.",
    node:durability() == "full" and 1 or 0)
  put(out, "exed_store_memory_bytes", "gauge", "Memory of the store.", memory)
  put(out, "exed_slices_waiting", "gauge", "Slices that no node has taken.", slices)
  put(out, "exed_jobs", "gauge", "Jobs in the store, of all nodes.", {
    { 'state="accepting"', accepting }, { 'state="running"', started - ended },
    { 'state="ended"', ended },
  })
end

local function write_node(node, out)
  put(out, "exed_slices_running", "gauge", "Slices that this node runs.", node.runner.count)
  put(out, "exed_followers", "gauge", "Readers of jobs' results on this node.",
    node.follow:readers())
  put(out, "exed_inventory_hosts", "gauge", "Hosts of the inventory.",
    #node.holder.inventory.hosts)
  put(out, "exed_inventory_broken", "gauge",
    "Whether the inventory's files have an error, and an older reading is in force.",
    node.holder.error and 1 or 0)
end

function numbers.write(node, out)
  out:write(metrics.text())
  write_node(node, out)
  write_store(node, out)
  if node.api then write_http(node.api, out) end
end

return numbers
