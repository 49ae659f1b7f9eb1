---@meta exed.test
-- SPDX-License-Identifier: MIT
-- Types of exed.test: tasks on a fake fleet with a virtual clock.

---@class exed.FleetSpec
---@field [integer] string names or ranges, such as "web[01:20]"
---@field vars? table<string, any>|fun(name: string): table<string, any>
---@field groups? table<string, string[]>
---@field dir? string where the tasks are; by default beside the test

-- How hosts answer; the other fields are the record's.
---@class exed.AnswerRule
---@field op? string
---@field host? string a pattern
---@field what? string a part of the command
---@field times? integer
---@field seconds? number that it takes
---@field reply? fun(host: table, fields: table): table
---@field status? exed.Status
---@field error? string
---@field [string] any

---@class exed.TestOptions
---@field args? table<string, any>
---@field targets? string a pattern
---@field who? string
---@field dry_run? boolean
---@field cancel_at? integer cancelled once so many effects were asked
---@field kill_at? integer|integer[] the node dies at these events

---@class exed.TestStep
---@field key string
---@field op string
---@field host string
---@field what string
---@field at number
---@field step? string

---@class exed.TestResult
---@field state integer 0 done, 2 failure
---@field ok boolean
---@field value any
---@field error? exed.Error
---@field outcomes table<string, { status: exed.Status, text: string? }>
---@field steps exed.TestStep[]
---@field said string[]
---@field history table[] steps, and what was said, in their order
---@field printed string[]
---@field journal table[]
---@field events integer
---@field seconds number of the virtual clock

---@class exed.Fleet
local Fleet = {}

---@param rule exed.AnswerRule
function Fleet:answer(rule) end

-- How web servers answer: pattern is a Lua pattern for the URL.
---@param pattern string
---@param answer table|(fun(url: string, args: table): table?)?
function Fleet:http(pattern, answer) end

-- How people answer.
---@param answer { approved: boolean?, who: string?, note: string?, timeout: boolean? }
function Fleet:approve(answer) end

-- What host:tally(name) begins with.
---@param host string
---@param name string
---@param times integer
function Fleet:tally(host, name, times) end

---@param task string
---@param options? exed.TestOptions
---@return exed.TestResult
function Fleet:run(task, options) end

-- Kills the node at every event, up to 30 times a run: no step twice, the same end.
---@param task string
---@param options? exed.TestOptions
---@param fn? fun(result: exed.TestResult)
---@return { runs: integer, events: integer }
function Fleet:survives(task, options, fn) end

-- Once for each combination of success and failure of the named steps.
---@param task string
---@param options exed.TestOptions
---@param steps string[]
---@param fn? fun(result: exed.TestResult)
---@return exed.TestResult[]
function Fleet:branches(task, options, steps, fn) end

---@class exed.Test
local test = {}

---@param spec exed.FleetSpec
---@return exed.Fleet
function test.fleet(spec) end

-- What the executor of that name answers: its plan, or nil and why it refuses.
---@param name string
---@param request exed.PlanRequest
---@return exed.Plan? plan
---@return string? why
function test.plan(name, request) end

---@class exed.PlanRequest
---@field op string
---@field args? table<string, any>
---@field timeout? number
---@field window? integer
---@field hosts? { count: integer?, groups: table<string, integer>? }
---@field settings? table<string, any>

-- One that fails does not keep the others from being run.
---@param name string what must hold
---@param fn fun()
function test.case(name, fn) end

return test
