-- SPDX-License-Identifier: MIT
-- A node: one exed process with its store, inventory, plugins, runner and API. It starts in the
-- order in which things need each other and ends in the reverse.

local ansible = require "exed.ansible"
local api = require "exed.api"
local asking = require "exed.asking"
local child = require "exed.redis_child"
local config = require "exed.config"
local fanout = require "exed.fanout"
local fiber = require "exed.fiber"
local follow = require "exed.follow"
local inventory_holder = require "exed.inventory.holder"
local inventory = require "exed.inventory"
local jobs = require "exed.jobs"
local json = require "exed.json"
local log = require "exed.log"
local membership = require "exed.membership"
local plugins = require "exed.plugins"
local process_dir = require "exed.process.dir"
local programs = require "exed.inventory.programs"
local redis = require "exed.redis"
local runner = require "exed.runner"
local signal = require "exed.signal"
local ssh_files = require "exed.ssh_files"
local state = require "exed.state"
local store = require "exed.store"
local sys = require "exed.sys"
local tasks = require "exed.tasks.registry"
local text_file = require "exed.text_file"
local timer = require "exed.timer"

local node = {}
node.__index = node

-- Seconds that an outside Redis gets to answer before the node serves without it.
local FIRST_CONTACT <const> = 5
-- Seconds that the private redis-server gets: it loads what it has, a second for a million entries.
local LOADING <const> = 120
-- Seconds that requests get for their end when the node has none of its own left.
local LAST_ANSWERS <const> = 1
-- Seconds after drain_timeout in which all is over, with half a second for what comes behind it: a
-- host that does not answer a kill holds up nobody. What it runs is looked for at the next start.
local AFTER_DRAIN <const> = 4.5
-- Seconds in which fibers end whose work has ended or was given up.
local LAST_FIBERS <const> = 0.5
-- Seconds in which the store hears that the node leaves.
local LAST_WORDS <const> = 1
-- Seconds that the private redis-server gets for its end, when it has answered and when it has not:
-- what it has acknowledged is on its disk, so nothing is lost by killing it.
local STORE_ENDS <const>, STORE_HANGS <const> = 4, 0.3
-- How often the inventory, and the files that logins depend on, are looked at, in seconds.
local INVENTORY_PERIOD <const> = 1
-- How often plugins are looked at, in seconds: what is saved is to be live within two.
local PLUGINS_PERIOD <const> = 1
-- How often expired jobs are looked for, in seconds.
local SWEEP_PERIOD <const> = 5

-- Runs fn(self). Returns true; or false when it raised, which is logged, unless the node ends.
local function try(self, name, fn)
  local ok, err = xpcall(fn, debug.traceback, self)
  if not ok and not self.ending then log.error("node", "%s: %s", name, err) end
  return ok
end

-- Runs fn in a fiber that lives until the node ends it, or by itself. If it fails, the node ends.
local function serve_by(self, name, fn)
  self.fibers[#self.fibers + 1] = assert(fiber.vital(name, fn))
end

-- Runs fn(self) in a fiber; what goes wrong in it is logged and does not end it for good. Where
-- even that fails, since memory is out, the node ends.
local function keep_running(self, name, pause, fn)
  serve_by(self, name, function()
    while not self.ending do
      try(self, name, fn)
      if not self.ending then timer.sleep(pause) end
    end
  end)
end

-- ---- the store ----------------------------------------------------------------------------------

local function read_library()
  return assert(text_file.read(sys.share() .. "/lua/store/functions.lua"))
end

-- The state directory is this node's alone while it lives.
local function open_state(self)
  local dir, err = state.open(config.store.dir)
  if not dir then return nil, err end
  self.dir = dir
  self.id = dir:node_id()
  self.ear = sys.uuid()
  return true
end

local function open_store(self)
  local url = config.runner.redis_url
  self.embedded = url == nil or url == "embedded"
  if self.embedded then
    local err
    self.child, err = child.start(self.dir:path(), config.store.redis_server,
      config.store.memory, LOADING)
    if not self.child then return nil, err end
    url = self.child:url()
  end
  local conn, err = redis.connect {
    url = url, library = read_library(), allow_eviction = config.store.allow_eviction,
    resolver = config.runtime.resolver and table.concat(config.runtime.resolver, ","),
    buffer = 2 * config.store.buffer,
  }
  if not conn then return nil, err end
  self.conn, self.store = conn, store.new(conn)
  local ok
  ok, err = conn:ready(self.embedded and LOADING or FIRST_CONTACT)
  if ok then return true end
  if err.code == "refused" or self.embedded then return nil, err end
  log.warn("node", "the store is away: %s", err.message)
  return true
end

-- Why the private redis-server keeps ending, or nil: that it cannot be reached is then no news.
function node:store_trouble()
  local trouble = self.child and self.child:trouble() or ""
  return trouble ~= "" and trouble or nil
end

-- Why the store cannot be used now, or nil.
function node:store_error()
  local up, reason = self.conn:up()
  if up then return not self.incarnation and "the node has not registered yet" or nil end
  return self:store_trouble() or reason ~= "" and reason or "not connected yet"
end

-- "full" or "degraded: ..."
function node:durability() return self.conn:info().durability end

local function sweep(self)
  local s = config.store
  local us = 1000000
  repeat
    local answer = self.store:call("sweep", store.now(), math.floor(s.ttl * us), s.sync_jobs,
      math.floor(s.sync_ttl * us), s.max_jobs)
  until not answer or answer[2] == 0
end

-- Calls fn(message) for each message of a channel until the connection is closed; "" says that some
-- may have been missed.
local function listen(self, channel, fn)
  local sub = assert(self.conn:subscribe(channel))
  while not self.ending do
    local message, err = sub:next()
    if not message then error(err.message) end
    fn(message)
  end
end

-- What other nodes ask of all: "cancel JID", and approve, pause and resume likewise.
local function listen_control(self)
  listen(self, "exed:control", function(message)
    local jid = message:match "^%a+ (.+)$"
    if jid then
      self.runner:look_at(jid)
    else
      for _, running in ipairs(self.runner:jobs()) do self.runner:look_at(running) end
    end
  end)
end

-- What runs here, for nodes that ask; and what others answer to our questions.
local function listen_ask(self)
  listen(self, "exed:ask", function(message) self.asking:answer(message) end)
end

local function listen_told(self)
  listen(self, "exed:told:" .. self.ear, function(message) self.asking:take(message) end)
end

local function listen_ready(self)
  listen(self, "exed:ready", function() self.runner:kick() end)
end

-- ---- the inventory ------------------------------------------------------------------------------

local function log_warnings(loaded)
  for _, warning in ipairs(loaded.warnings) do log.warn("inventory", "%s", warning) end
end

-- Seconds that the reading of an inventory takes at a time: a request needs several turns of the
-- loop, and each of them waits so long.
local READING <const> = 0.002

-- Gives others a turn when the time is up.
local function pauses()
  local since = timer.now()
  return function()
    if timer.now() - since < READING then return end
    timer.sleep(0)
    since = timer.now()
  end
end

local function open_inventory(self)
  local path = config.inventory.path
  inventory.use_json(json)
  local holder, err = inventory_holder.open(path, {
    pause = pauses(), programs = programs.standard(),
  })
  self.holder = holder
  if err then log.warn("inventory", "%s", err.message) end
  log_warnings(holder.inventory)
  log.info("inventory", "%s: %d hosts", path, #holder.inventory.hosts)
end

local function refresh_inventory(self)
  local known = self.holder.error and self.holder.error.message
  local changed, err = self.holder:refresh()
  if changed then
    log_warnings(self.holder.inventory)
    log.info("inventory", "%d hosts, read again", #self.holder.inventory.hosts)
  elseif err and err.message ~= known then
    log.error("inventory", "%s (the last good one stays in force)", err.message)
  end
end

-- ---- plugins ------------------------------------------------------------------------------------

-- Files that were saved come into force; see exed.plugins and exed.tasks.registry.
local function refresh_plugins(self)
  self.plugins:scan()
  self.tasks:scan()
end

-- ---- start and end ------------------------------------------------------------------------------

local function open(self)
  local ok, err = open_state(self)
  if not ok then return nil, err end
  for _, kind in ipairs { "ansible", "process" } do process_dir.sweep(self.dir:path(), kind) end
  self.plugins = plugins.open(self)
  self.tasks = tasks.open(self)
  open_inventory(self)
  local overruled = config.runner.executor == "ansible" and ansible.overruled()
  if overruled then log.warn("ansible", "%s", overruled) end
  ok, err = open_store(self)
  if not ok then return nil, err end
  self.runner, self.membership = runner.new(self), membership.new(self)
  self.asking = asking.new(self)
  self.follow = follow.new(self)
  return true
end

-- Registers, as soon as the store answers; a worker then takes up what it had, and what is new.
local function join(self)
  local function register()
    self.membership:register()
    self.membership:undo_accepting(self.id)
  end
  local function take()
    self.runner:doubt() -- what it was about to start when it raised
    self.runner:reclaim()
    self.runner:loop()
  end
  serve_by(self, "runner", function()
    local steps = config.runner.role == "api" and { register } or { register, take }
    for _, step in ipairs(steps) do
      while not try(self, "runner", step) and not self.ending do timer.sleep(1) end
    end
  end)
end

-- A node whose store answers is healthy from its first answer on.
local function wait_for_registration(self)
  local deadline = timer.now() + FIRST_CONTACT
  while not self.incarnation and self.conn:up() and timer.now() < deadline do timer.sleep(0.005) end
end

-- Opens everything and begins to serve. Returns the node, or nil, err.
function node.start()
  local self = setmetatable({
    config = config, version = sys.version(), ending = false, fibers = {},
  }, node)
  local ok, err = open(self)
  if not ok then return nil, err end
  join(self)
  wait_for_registration(self)
  keep_running(self, "beat", membership.period(), function() self.membership:turn() end)
  keep_running(self, "sweep", SWEEP_PERIOD, sweep)
  keep_running(self, "control", 1, listen_control)
  keep_running(self, "ready", 1, listen_ready)
  keep_running(self, "ask", 1, listen_ask)
  keep_running(self, "told", 1, listen_told)
  keep_running(self, "inventory", INVENTORY_PERIOD, refresh_inventory)
  keep_running(self, "plugins", PLUGINS_PERIOD, refresh_plugins)
  local watch = ssh_files.new(self)
  keep_running(self, "ssh files", INVENTORY_PERIOD, function() watch:turn() end)
  self.api, err = api.start(self)
  if not self.api then return nil, err end
  return self
end

-- The settings again, whole or not at all; sys.reload tells the log.
local function reload(self)
  local path = config.inventory.path
  log.info("node", "SIGHUP: reading the settings again")
  sys.notify "reloading"
  if sys.reload() then
    self.api:reload()
    if config.inventory.path ~= path then open_inventory(self) end
    log.info("node", "the settings are in force")
  else
    log.error("node", "the settings are wrong, so the former ones stay in force, all of them")
  end
  sys.notify "ready"
end

-- Until a signal says that it is enough; then lets what runs end within drain_timeout.
function node:serve()
  local name = signal.wait()
  while name == "HUP" do
    reload(self)
    name = signal.wait()
  end
  sys.notify "stopping"
  log.info("node", "SIG%s: ending, at most %g s for what runs", name, config.runner.drain_timeout)
  self:close()
end

-- Who waits here for the end of a job gets it, when it has come; the others are told to go.
local function end_streams(self)
  self.follow:leave()
  local deadline = timer.now() + LAST_ANSWERS
  while self.api:open() > 0 and timer.now() < deadline do timer.sleep(0.02) end
  self.api:close()
end

-- What the others began is over, and so they end by themselves; what does not is ended by force.
local function wait_for_fibers()
  local deadline = timer.now() + LAST_FIBERS
  while fiber.count() > 1 and timer.now() < deadline do timer.sleep(0.005) end
end

function node:close()
  self.ending = true
  fanout.end_by(timer.now() + config.runner.drain_timeout + AFTER_DRAIN)
  if self.api then self.api:stop() end
  self.runner:drain(config.runner.drain_timeout)
  if self.api then end_streams(self) end
  for _, handle in ipairs(self.fibers) do handle:cancel "the node ends" end
  self.tasks:close()
  wait_for_fibers()
  fiber.limit(LAST_WORDS)
  local called, answered = pcall(self.membership.leave, self.membership)
  fiber.limit(nil)
  self.closed = true
  self.conn:close()
  if self.child then self.child:stop(called and answered and STORE_ENDS or STORE_HANGS) end
  log.info("node", "ended")
end

-- For handlers: the hosts that run a job, on all nodes; and whether all nodes have answered.
function node:running(jid) return self.asking:running(jid) end

node.jobs = jobs

return node
