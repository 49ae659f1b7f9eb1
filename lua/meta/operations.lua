---@meta
-- SPDX-License-Identifier: MIT
-- Types of operations: their fields, options, records and results.

-- Options of all operations.
---@class exed.Options
---@field timeout? exed.Duration
---@field retries? integer 0
---@field delay? exed.Duration 2
---@field backoff? number 2: each delay is so many times the last, at most 60 s
---@field step? string a short name for people
---@field check? boolean false: a failure does not raise
---@field changes? boolean false: it only looks
---@field repeatable? boolean may be run again when a crash left it unsettled
---@field window? integer of sets: hosts at once
---@field max_failed? exed.Count of sets: 0

---@class exed.ExecuteOptions: exed.Options
---@field env? table<string, exed.Text>
---@field stdin? exed.Text
---@field cwd? string

---@class exed.PingOptions: exed.Options
---@class exed.FacterOptions: exed.Options

---@class exed.ServiceOptions: exed.Options
---@field name string
---@field state "started"|"stopped"|"restarted"|"reloaded"
---@field enable? boolean

---@class exed.DeployOptions: exed.Options
---@field role string
---@field partial? string[]
---@field extra_vars? table<string, any>

---@class exed.CopyOptions: exed.Options
---@field dest string an absolute path
---@field src? string a file in the plugin's files/
---@field content? exed.Text
---@field template? string a file in the plugin's files/, filled in with vars
---@field vars? table<string, exed.Text>
---@field mode? string "0644"
---@field owner? string
---@field group? string
---@field backup? boolean keeps what was there, for restore

---@class exed.FetchOptions: exed.Options
---@field src string an absolute path
---@field max? integer bytes, at most 64k

---@class exed.RestoreOptions: exed.Options

---@class exed.WaitOptions: exed.Options
---@field via? "ssh"|"icmp"|string "tcp:PORT"

-- What became of one operation on one host.
---@class exed.Record
---@field host exed.Host
---@field step string
---@field status exed.Status
---@field ok boolean OK or CHANGED
---@field failed boolean FAILED or UNREACHABLE
---@field error? string why it failed
---@field rtc? integer exit code
---@field stdout string at most 64 KiB
---@field stderr string
---@field truncated? boolean
---@field timed_out? boolean
---@field signal? string|integer
---@field killed? boolean
---@field survivors? integer
---@field cancelled? boolean
---@field unknown? boolean it may have run, and nobody can say how it ended
---@field facts? table<string, any>
---@field content? string of fetch
---@field checksum? string
---@field seconds? number of wait_up, wait_down
---@field boot? string of wait_up, wait_down by ssh: the id of the host's boot
---@field attempts integer
---@field dry_run? boolean

-- Records in the set's order; also by host and by name.
---@class exed.Results
---@field [integer] exed.Record
---@field [exed.Host] exed.Record
---@field [string] exed.Record
---@field ok exed.Set
---@field failed exed.Set
---@field changed exed.Set
---@field unreachable exed.Set
---@field skipped exed.Set
local Results = {}

---@param fn fun(record: exed.Record): any
---@return exed.Set
function Results:where(fn) end

-- What each.window returns.
---@class exed.Outcomes: exed.Results
---@field stopped? string why no more hosts were started
