-- SPDX-License-Identifier: MIT
-- Which hosts a verb works on: the inventory of the command line or the settings, and the hosts
-- that a pattern names in it.

local config = require "exed.config"
local inventory = require "exed.inventory"
local options = require "exed.cli.options"
local pattern = require "exed.pattern"
local sys = require "exed.sys"
local words = require "exed.words"

local targets = {}

-- What the verbs that work on hosts have in common.
targets.options = {
  inventory = {
    "inventory", "i", type = "string", value = "WHICH", shown = "[inventory] path, or ./hosts",
    help = "a file or directory in Ansible's format, or a list of hosts with a comma in it: "
      .. "web1,web2 or web[01:20],",
  },
  max_hosts = {
    "max-hosts", type = "integer", min = 1, value = "N", help = "refuse more hosts than this",
  },
}

targets.pattern_help = [[
PATTERN names hosts as the API's targets do: a host, a group, a glob (web*), a range (web[01:20],
or web[01-03,07] as it is shown), a part of a group (web[0:2]), a regular expression
(~(web|db)\d+), several with commas, without some (web:!web03) and only those that are also in
another group (web:&prod). "all" is all of them.]]

-- The hosts of a comma list as an inventory.
local function of_list(text)
  local lines = {}
  for name in text:gmatch "[^,]+" do
    name = name:match "^%s*(.-)%s*$"
    if name:find "%s" then
      options.refuse("option --inventory: %s is no host name", words.show(name))
    end
    lines[#lines + 1] = name
  end
  return inventory.parse("--inventory", table.concat(lines, "\n"))
end

local function missing(path)
  return ("there is no inventory %s: give one with -i FILE, or hosts with -i web1,web2")
    :format(path)
end

-- The inventory that --inventory or the settings name.
function targets.open(given)
  local path = given.inventory or config.inventory.path
  local found, err
  if given.inventory and path:find(",", 1, true) then
    found, err = of_list(path)
  elseif not sys.stat(path) then
    options.refuse("%s", missing(path))
  else
    found, err = inventory.load(path)
  end
  if not found then options.refuse("%s", err.message) end
  return found
end

-- The hosts that a pattern names, and what in it names none. Raises when it names no host at all.
function targets.match(found, text)
  local hosts, unknown = pattern.resolve(found, { text })
  if not hosts then options.refuse("%s", unknown.message) end
  if #hosts == 0 then
    options.refuse("%s names no host of the inventory (it has %d)", words.show(text), #found.hosts)
  end
  return hosts, unknown
end

-- Raises when so many hosts are more than --max-hosts allows.
function targets.limit(given, count)
  local most = given["max-hosts"]
  if most and count > most then
    options.refuse("%d targets are more than --max-hosts, %d", count, most)
  end
end

return targets
