-- SPDX-License-Identifier: MIT
-- The types for editors in lua/meta name what there is, and all of it.

local job = require "exed.task.job"
local records = require "exed.task.records"
local support = require "task_support"
local sys = require "exed.sys"
local t = require "support"
local test = require "exed.test"
local types = require "exed.schema.types"

-- ---- what the types say -------------------------------------------------------------------------

local function set_of(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

local function names(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, " ")
end

-- Classes by name: fields, functions (sets), parent.
local function read_types()
  local classes, variables, text_of_all = {}, {}, {}
  for _, file in ipairs(assert(sys.list(sys.share() .. "/lua/meta"))) do
    local class
    for line in io.lines(sys.share() .. "/lua/meta/" .. file) do
      local name, parent = line:match "^%-%-%-@class ([%w.]+):? ?([%w.]*)"
      if name then
        class = { fields = {}, functions = {}, parent = parent }
        classes[name] = class
      end
      local field = line:match "^%-%-%-@field ([%w_]+)"
      if field then class.fields[field] = true end
      local variable = line:match "^local (%w+) = {}$"
      if variable then variables[variable] = class end
      local owner, fn = line:match "^function (%w+)[.:]([%w_]+)%("
      local of = owner and variables[owner]
      if of then of.functions[fn] = true end
      text_of_all[#text_of_all + 1] = line
    end
  end
  return classes, table.concat(text_of_all, "\n")
end

local classes, text = read_types()

local function fields_of(name)
  local all = {}
  while name and classes[name] do
    for field in pairs(classes[name].fields) do all[field] = true end
    name = classes[name].parent
  end
  return all
end

-- ---- what there is ------------------------------------------------------------------------------

-- The names in `(known: a, b)` of the error about an unknown field.
local function known(body)
  local message = support.problem({ "a" }, body)
  local list = message:match "%(known: ([^)]*)%)"
  assert(list, body .. ": " .. message)
  return set_of((list:gsub(",", " ")))
end

local function without(set, text_of_names)
  local copy = {}
  for name in pairs(set) do copy[name] = true end
  for name in pairs(set_of(text_of_names)) do copy[name] = nil end
  return copy
end

local function keys(map)
  local set = {}
  for key in pairs(map) do
    if type(key) == "string" then set[key] = true end
  end
  return set
end

local function same(found, want, what) t.eq(names(found), names(want), what) end

-- ---- tests --------------------------------------------------------------------------------------

local hosts = require "exed.task.operations"
require "exed.task.tally"

t.test("hosts and sets: their functions", function()
  same(classes["exed.Host"].functions, keys(hosts.host_methods), "host")
  same(classes["exed.Set"].functions, keys(hosts.set_methods), "set")
  same(classes["exed.Results"].functions, keys(records.methods), "results")
  same(without(classes["exed.Results"].fields, ""), keys(records.FLAGS), "sets of results")
end)

t.test("the job: its functions, and what it holds", function()
  same(classes["exed.Job"].functions, keys(job.methods), "job")
  local held = support.value({ "a" }, [[
    local found = {}
    for _, name in ipairs { "args", "jid", "who", "dry_run", "hosts", "targets", "node" } do
      found[#found + 1] = job[name] ~= nil and name or nil
    end
    return table.concat(found, " ")]])
  same(classes["exed.Job"].fields, set_of(held), "job")
end)

t.test("operations: each field and option", function()
  for class, body in pairs {
    ExecuteOptions = "execute('x', { zzqqzz = 1 })", PingOptions = "ping { zzqqzz = 1 }",
    FacterOptions = "facter { zzqqzz = 1 }", ServiceOptions = "service { zzqqzz = 1 }",
    DeployOptions = "deploy { zzqqzz = 1 }", FetchOptions = "fetch { zzqqzz = 1 }",
    WaitOptions = "wait_up { zzqqzz = 1 }", CopyOptions = "copy { content = 'x', zzqqzz = 1 }",
  } do
    local found = known("job.hosts:" .. body)
    -- These two are read before the others.
    if class == "CopyOptions" then found.content, found.vars = true, true end
    same(fields_of("exed." .. class), found, class)
    found = known("job.hosts[1]:" .. body)
    if class == "CopyOptions" then found.content, found.vars = true, true end
    same(without(fields_of("exed." .. class), "window max_failed"), found, class)
  end
end)

t.test("functions with options: each of them", function()
  for class, body in pairs {
    WaitUntilOptions = "job:wait_until({ zzqqzz = 1 }, print)",
    RetryOptions = "job:retry({ zzqqzz = 1 }, print)",
    ApprovalOptions = "job:await_approval { zzqqzz = 1 }",
    TallyOptions = "job.hosts[1]:tally('x', { zzqqzz = 1 })",
    HttpOptions = "http.get('http://a/', { zzqqzz = 1 })",
  } do same(fields_of("exed." .. class), known(body), class) end
  local each = known "each.window(job.hosts, { zzqqzz = 1 }, print)"
  each.gate = true -- no value of a request
  same(fields_of "exed.EachOptions", each)
  t.has(support.problem({ "a" }, "job:call('x', { zzqqzz = 1 })"), "(hosts, args, check)")
  same(fields_of "exed.CallOptions", set_of "hosts args check")
end)

t.test("modules: each of their functions", function()
  local found = support.value({ "a" }, [[
    local function keys(module)
      local list = {}
      for key in pairs(module) do list[#list + 1] = key end
      return table.concat(list, " ")
    end
    return { keys(each), keys(http), keys(json) }]])
  same(classes["exed.Each"].functions, set_of(found[1]))
  same(classes["exed.Http"].functions, set_of(found[2]))
  local json = set_of(found[3])
  for name in pairs(classes["exed.Json"].fields) do classes["exed.Json"].functions[name] = true end
  same(classes["exed.Json"].functions, json)
  same(classes["exed.Test"].functions, without(keys(test), "runner"))
end)

t.test("test fleets: their functions, and what a run gives", function()
  local fleet = support.fleet({ "a" }, support.task "job:say 'x'")
  same(classes["exed.Fleet"].functions, without(keys(debug.getmetatable(fleet)), "__index"))
  local result = fleet:run "x"
  result.error, result.value = {}, 1
  same(classes["exed.TestResult"].fields, keys(result))
end)

t.test("a task's file: its fields", function()
  local fleet = support.fleet({ "a" }, "return { zzqqzz = 1 }")
  local ok, message = pcall(fleet.run, fleet, "x")
  assert(not ok)
  same(classes["exed.Task"].fields, set_of((message:match "%((.-)%)":gsub(",", " "))))
end)

t.test("declared arguments: types and options", function()
  local said, stop = {}, text:find("-- A declared argument", 1, true)
  local from = text:find("---@alias exed.ArgType", 1, true)
  for name in text:sub(from, stop):gmatch '| "(%w+)"' do said[name] = true end
  same(said, keys(types.readers))
  for option in pairs(without(fields_of "exed.Arg", "1")) do
    local values = { required = "true", min = "1", max = "2", secret = "true", default = "'x'" }
    local value = values[option] or "'%a+'"
    local kind = option == "of" and "{ 'list', of = 'string' }"
      or ("{ 'string', %s = %s }"):format(option, value)
    local found = support.fleet({ "a" }, support.task("return 1", "{ x = " .. kind .. " }"))
      :run("x", { args = { x = option == "of" and { "x" } or "x" } })
    t.eq(found.value, 1, option)
  end
end)

t.test("executors and handlers: their fields", function()
  local check = require "exed.plugins.check"
  local function listed(fn, ...)
    local _, message = pcall(fn, ...)
    return set_of((message:match "%((.-)%)":gsub(",", " ")))
  end
  same(fields_of "exed.Executor", listed(check.executor, { zzqqzz = 1 }))
  same(classes["exed.Request"].functions, without(keys(require "exed.api.request"), "__index"))
  same(fields_of "exed.Plan", keys(require("exed.plan.check").FIELDS))
  same(fields_of "exed.Handler", listed(check.handler, { zzqqzz = 1 }, "exed"))
  same(fields_of "exed.Method", listed(check.handler,
    { path = "/x", methods = { GET = { zzqqzz = 1 } } }, "exed"))
end)

t.done()
