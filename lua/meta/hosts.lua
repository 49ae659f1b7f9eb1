---@meta
-- SPDX-License-Identifier: MIT
-- Types of hosts and of sets of hosts.

-- One object stands for a host: == and use as a key work; tostring gives its name.
---@class exed.Host
---@field name string
---@field address string
---@field vars table<string, any> from the inventory, read-only
---@field groups table<string, true?>
local Host = {}

-- A text is read by sh on the host; of a list each word is quoted.
---@param command string|(string|number)[]|exed.ExecuteOptions
---@param options? exed.ExecuteOptions
---@return exed.Record
function Host:execute(command, options) end

-- A real login.
---@param options? exed.PingOptions
---@return exed.Record
function Host:ping(options) end

-- record.facts
---@param options? exed.FacterOptions
---@return exed.Record
function Host:facter(options) end

-- OK or CHANGED
---@param options exed.ServiceOptions
---@return exed.Record
function Host:service(options) end

-- A role of the deploying side.
---@param options exed.DeployOptions
---@return exed.Record
function Host:deploy(options) end

-- Written beside and renamed, checksum verified; OK when it was so already.
---@param options exed.CopyOptions
---@return exed.Record
function Host:copy(options) end

-- record.content
---@param options exed.FetchOptions
---@return exed.Record
function Host:fetch(options) end

-- Until nothing answers there, or another boot does.
---@param options? exed.WaitOptions
---@return exed.Record
function Host:wait_down(options) end

-- Until it answers.
---@param options? exed.WaitOptions
---@return exed.Record
function Host:wait_up(options) end

-- Undoes a copy that had backup = true.
---@param record exed.Record
---@param options? exed.RestoreOptions
---@return exed.Record
function Host:restore(record, options) end

-- Sets the host's outcome, and goes on; the last one counts.
---@param status exed.Status
---@param text? string
function Host:record(status, text) end

-- Ends the body as FAILED.
---@param text string
function Host:fail(text) end

-- Tells all followers, once.
---@param format string
---@param ... any
function Host:say(format, ...) end

---@class exed.TallyOptions
---@field within? exed.Duration 30d
---@field add? boolean once more, now
---@field clear? boolean forgets all

-- How often `name` was added for this host within a time, in this job and those before it.
---@param name string
---@param options? exed.TallyOptions
---@return integer
function Host:tally(name, options) end

-- A list of hosts that never changes: #set, set[i], ipairs(set).
---@class exed.Set
---@field [integer] exed.Host
local Set = {}

-- Those that an inventory pattern names.
---@param pattern string|string[]
---@return exed.Set
function Set:match(pattern) end

---@param fn fun(host: exed.Host): any
---@return exed.Set
function Set:filter(fn) end

---@param other exed.Set|exed.Host
---@return exed.Set
function Set:minus(other) end

---@param host exed.Host
---@return boolean
function Set:has(host) end

---@return string[]
function Set:names() end

-- for value, hosts in set:by "rack" do: in order of the value, hosts without it last, under "".
---@param var string
---@return fun(): (string|number)?, exed.Set?
function Set:by(var) end

-- Sets the outcome of all its hosts.
---@param status exed.Status
---@param text? string
function Set:record(status, text) end

-- A text is read by sh on the host; of a list each word is quoted.
---@param command string|(string|number)[]|exed.ExecuteOptions
---@param options? exed.ExecuteOptions
---@return exed.Results
function Set:execute(command, options) end

-- A real login.
---@param options? exed.PingOptions
---@return exed.Results
function Set:ping(options) end

-- record.facts
---@param options? exed.FacterOptions
---@return exed.Results
function Set:facter(options) end

-- OK or CHANGED
---@param options exed.ServiceOptions
---@return exed.Results
function Set:service(options) end

-- A role of the deploying side.
---@param options exed.DeployOptions
---@return exed.Results
function Set:deploy(options) end

-- Written beside and renamed, checksum verified; OK when it was so already.
---@param options exed.CopyOptions
---@return exed.Results
function Set:copy(options) end

-- record.content
---@param options exed.FetchOptions
---@return exed.Results
function Set:fetch(options) end

-- Until nothing answers there, or another boot does.
---@param options? exed.WaitOptions
---@return exed.Results
function Set:wait_down(options) end

-- Until it answers.
---@param options? exed.WaitOptions
---@return exed.Results
function Set:wait_up(options) end

-- Undoes copies that had backup = true.
---@param results exed.Results
---@param options? exed.RestoreOptions
---@return exed.Results
function Set:restore(results, options) end
