-- SPDX-License-Identifier: MIT
-- Notices when a file changes that logins depend on (known hosts, keys, their passphrase), so that
-- a host that was just added to known_hosts can be reached without a restart.
--
--   local watch = ssh_files.new(node)                 node: config, holder
--   watch:turn()                                      looks once, and reads again what has changed

local log = require "exed.log"
local sys = require "exed.sys"

local ssh_files = {}
ssh_files.__index = ssh_files

local USUAL <const> = { "id_ed25519", "id_ecdsa", "id_rsa" }

local function home(name) return (os.getenv "HOME" or "") .. "/.ssh/" .. name end

-- The files that the settings name, or the usual ones. What exed itself adds to known_hosts is no
-- reason to read it again.
local function named_files(config)
  local found = {}
  if config.host_key_checking ~= "accept-new" then
    found[#found + 1] = config.known_hosts or home "known_hosts"
    if not config.known_hosts then found[#found + 1] = "/etc/ssh/ssh_known_hosts" end
  end
  found[#found + 1] = config.key_passphrase_file
  if #config.key > 0 then
    for _, path in ipairs(config.key) do found[#found + 1] = path end
  else
    for _, name in ipairs(USUAL) do found[#found + 1] = home(name) end
  end
  return found
end

-- The keys that hosts of the inventory name; each once.
local function inventory_files(self)
  local holder = self.node.holder
  if self.generation == holder.generation then return self.keys end
  local keys, seen = {}, {}
  for _, host in ipairs(holder.inventory.hosts) do
    if host.key and not seen[host.key] then
      seen[host.key] = true
      keys[#keys + 1] = host.key
    end
  end
  self.keys, self.generation = keys, holder.generation
  return keys
end

local function look(self, path, marks)
  local stat = sys.stat(path)
  marks[path] = stat and ("%d %d %d"):format(stat.mtime, stat.size, stat.inode) or "none"
  local old = self.marks[path]
  return old ~= nil and old ~= marks[path]
end

function ssh_files.new(node)
  local self = setmetatable({ node = node, marks = {}, keys = {} }, ssh_files)
  self:turn()
  return self
end

function ssh_files:turn()
  local marks, changed = {}, nil
  for _, list in ipairs { named_files(self.node.config.ssh), inventory_files(self) } do
    for _, path in ipairs(list) do
      if look(self, path, marks) then changed = path end
    end
  end
  self.marks = marks
  if not changed then return end
  if sys.reload_ssh() then
    log.info("ssh", "%s has changed: keys and known hosts are read again", changed)
  else
    log.error("ssh", "%s has changed, and the former keys and known hosts stay in force", changed)
  end
end

return ssh_files
