---@meta
-- SPDX-License-Identifier: MIT
-- Types of a task's file, its job, hosts and sets, for editors that know lua-language-server. These
-- files are never loaded: they tell names and types of what exed gives.

---@alias exed.Count integer|string # 3 or "10%"
---@alias exed.Duration number|string # seconds, or "90s", "5m", "4h", "2d"
---@alias exed.Status "OK"|"CHANGED"|"SKIPPED"|"FAILED"|"UNREACHABLE"
---@alias exed.Text string|number|exed.Secret

---@alias exed.ArgType
---| "string" # text
---| "path" # an absolute path
---| "url" # http:// or https://
---| "command" # text that a shell will read
---| "integer"
---| "number"
---| "boolean"
---| "count" # 3 or "10%"
---| "duration" # 90, "90s", "5m"; the task gets seconds
---| "choice" # one of `of`
---| "list" # JSON list or comma list; `of` is the type of its items
---| "object" # JSON object
---| "host" # the name of one target
---| "hosts" # a pattern, resolved inside the targets; the task gets a set

-- A declared argument: { TYPE, option = value, ... }.
---@class exed.Arg
---@field [1] exed.ArgType
---@field required? boolean
---@field default? any
---@field min? number|string of the value, its length or its number of items
---@field max? number|string
---@field match? string a Lua pattern for the whole text
---@field help? string one line
---@field secret? boolean masked everywhere; the task gets a handle
---@field of? string|table what a choice may be; the type of a list's items

-- What tasks/NAME.lua returns.
---@class exed.Task
---@field summary string one line
---@field args? table<string, exed.Arg>
---@field run fun(job: exed.Job): any the task; what it returns is kept as the job's value
---@field type? string default "task"; what a request may say as tasktype
---@field lock? "exclusive"|"shared"|"none" lease on the targets
---@field time_limit? exed.Duration over it the task is cancelled
---@field cleanup_limit? exed.Duration for deferred functions after a cancel or a limit
---@field max_hosts? integer refuses more targets than this
---@field check? fun(args: table<string, any>): boolean?, string? what args must say together

-- What is raised by everything that fails, and what comes with nil.
---@class exed.Error
---@field code "failed"|"stopped"|"aborted"|"timeout"|"denied"|"cancelled"|"version_conflict"|string
---@field message string
---@field host? exed.Host
---@field record? exed.Record
---@field results? exed.Results

-- A handle of a value that never enters the task; tostring gives ***.
---@class exed.Secret

---@class exed.Job
---@field args table<string, any> what was given, checked by the declaration
---@field jid string
---@field who string who asked
---@field dry_run boolean
---@field hosts exed.Set the targets, in inventory order
---@field targets string[] their names
---@field node exed.Node the machine that the task runs on
local Job = {}

-- The host of that name; raises when it is not a target.
---@param name string
---@return exed.Host
function Job:host(name) end

-- Runs fn when the body (or run) ends, last first, however it ends.
---@param fn fun()
function Job:defer(fn) end

-- Tells all followers, once.
---@param format string
---@param ... any
function Job:say(format, ...) end

-- Ends the task as Failure; deferred functions run.
---@param reason string
function Job:abort(reason) end

---@param duration exed.Duration
function Job:sleep(duration) end

-- The time of the last answer, in UTC seconds; it stands still while no effect is asked.
---@return integer
function Job:now() end

-- As math.random, the same on a resume.
---@param m? integer
---@param n? integer
---@return number
function Job:random(m, n) end

-- fn's value (true for none), or nil and what it raised; with deferred functions of its own.
---@param fn function
---@param ... any
---@return any value
---@return exed.Error? err
function Job:try(fn, ...) end

---@class exed.WaitUntilOptions
---@field timeout? exed.Duration 60
---@field every? exed.Duration 2
---@field check? boolean

-- Calls fn until it returns true; an operation that fails in it counts as not yet.
---@param options exed.WaitUntilOptions
---@param fn fun(): any
---@return any
function Job:wait_until(options, fn) end

---@class exed.RetryOptions
---@field attempts? integer 3
---@field delay? exed.Duration 2
---@field backoff? number 2
---@field check? boolean

-- Calls fn again when it raises or returns nil or false; then raises the last error.
---@param options exed.RetryOptions
---@param fn fun(): any
---@return any
function Job:retry(options, fn) end

---@class exed.ApprovalOptions
---@field message string
---@field timeout? exed.Duration 1h
---@field by? string who may answer, such as "group:dba"
---@field check? boolean

---@class exed.Approval
---@field approved boolean
---@field who string
---@field note? string

-- Waits for people; raises "denied" or "timeout".
---@param question exed.ApprovalOptions
---@return exed.Approval
function Job:await_approval(question) end

-- For env, stdin, content and headers.
---@param name string
---@return exed.Secret
function Job:secret(name) end

---@class exed.CallOptions
---@field hosts? exed.Set|exed.Host
---@field args? table<string, any>
---@field check? boolean

-- Another task, in this job and under its lease.
---@param name string
---@param options? exed.CallOptions
---@return any value
function Job:call(name, options) end

-- The machine that the task runs on.
---@class exed.Node
---@field name string
local Node = {}

-- A list of words; [tasks] local_commands must name the first.
---@param command string[]
---@param options? exed.ExecuteOptions
---@return exed.Record
function Node:execute(command, options) end
