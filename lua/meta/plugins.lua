---@meta
-- SPDX-License-Identifier: MIT
-- Types of executors and handlers.

-- What executors/NAME.lua returns.
---@class exed.Executor
---@field type? "executor"
---@field summary string
---@field settings? table<string, exed.Arg>
---@field check? fun(settings: table): true?, string?
---@field operations table<string, exed.ExecutorOperation>

---@class exed.ExecutorRequest
---@field op string
---@field args table<string, any>
---@field timeout? number
---@field window? integer
---@field hosts { count: integer, groups: table<string, integer> } groups: how many are in each

---@alias exed.ExecutorOperation fun(request: exed.ExecutorRequest, settings: table): table?, any

-- How an operation is done.
---@class exed.Plan
---@field transport "ssh"|"local"|"process" process: one local process for all hosts
---@field command? string for sh; {host.X} and {vars.X} are each one word
---@field argv? string[] words, in place of command; {host.X} and {vars.X} in them are filled in
---@field stdin? string
---@field env? table<string, string>|string[]
---@field cwd? string an absolute path
---@field files? exed.PlanFile[] sent before the command, which then runs behind the fence
---@field verdict? table<integer|"default", exed.Status> only a process may leave it out
---@field stdout? "text"|"json"|"facts" json: an object, whose fields the record has
---@field timeout? exed.Duration
---@field window? integer
---@field output_cap? integer bytes of each stream that are kept
---@field fence? boolean false: what a crash left unsettled is not looked for
---@field repeatable? boolean it only looks, or may be done again
---@field hosts_file? "names"|"json-lines" of a process: what is in the file {hosts_file}
---@field records? "json-lines" of a process: { host, status, ... } on each line of descriptor 3
---@field per_host? fun(host: exed.PlanHost): exed.HostFields?, string? what differs; or why not run

-- Either src or content.
---@class exed.PlanFile
---@field src? string a file of the node: absolute, or in executors/files/NAME/
---@field content? string
---@field dest string an absolute path
---@field mode? string "0644"

-- A host as per_host gets it.
---@class exed.PlanHost
---@field name string
---@field address string
---@field port integer
---@field user? string
---@field groups table<string, true>
---@field vars table<string, any>

-- The fields of a plan that may differ between hosts.
---@class exed.HostFields
---@field command? string
---@field argv? string[]
---@field stdin? string
---@field env? table<string, string>|string[]
---@field cwd? string
---@field timeout? exed.Duration

-- What handlers/DIALECT/NAME.lua returns.
---@class exed.Handler
---@field type? "handler"
---@field path string "/jobs/:jid"
---@field dialect? string
---@field methods table<"GET"|"POST"|"PUT"|"PATCH"|"DELETE", exed.Method>

---@class exed.Method
---@field summary string
---@field query? table<string, exed.Arg>
---@field body? table<string, exed.Arg>
---@field answers? table<integer, string|table> by status: the name of a shape, or a JSON schema
---@field changes? boolean
---@field socket? boolean
---@field run fun(req: exed.Request): integer?, any, table<string, string>?

---@class exed.Request
---@field method string
---@field path string
---@field params table<string, string>
---@field query table<string, any>
---@field body? any
---@field headers table<string, string>
---@field who string
---@field peer string
local Request = {}

-- One header, by its name in lower case; cheaper than `headers`, which is made when asked for.
---@param name string
---@return string?
function Request:header(name) end

-- The answer that follows a job.
---@param jid string
---@param options? { from: integer? }
---@return integer? status
---@return any answer
---@return table<string, string>? headers
function Request:stream(jid, options) end
