-- SPDX-License-Identifier: MIT
-- GET /jobs/JID/journal: what a task asked and was answered, a page at a time, oldest first.

local answer = require "exed.answer"
local history = require "exed.tasks.history"
local outputs = require "exed.tasks.outputs"

local function not_found(jid)
  return nil, { code = "not_found", message = "no such jid " .. jid }
end

-- Entries are JSON already; each gets its id.
local function write(out, page, start)
  out:write('{"last":', tostring(page.last))
  if start then out:write(',"start":', start) end
  out:write ',"entries":['
  for i, row in ipairs(page) do
    out:write(i > 1 and "," or "", ('{"id":%d,'):format(row.id), row.text:sub(2))
  end
  out:write "]}"
  return true
end

local function output_of(req, jid)
  local query = req.query
  local text, err = outputs.text(req.node, jid, query.output, query.host or 0, query.stream)
  if not text then return nil, err end
  return 200, { text = text }
end

return {
  type = "handler",
  path = "/jobs/:jid/journal",
  dialect = "exed",
  methods = {
    GET = {
      summary = "the journal of a task: what it asked, and what it was answered",
      query = {
        after = { "integer", min = 0, default = 0, help = "what comes after that id" },
        count = { "integer", min = 1, max = 1000, default = 1000, help = "at most so many" },
        start = { "boolean", default = false, help = "also what the task was started with" },
        output = { "integer", min = 1, help = "instead: output that the answer to that effect "
          .. "left out, of one host" },
        host = { "integer", min = 0, help = "with output: the host's place among the targets" },
        stream = {
          "choice", of = { "stdout", "stderr" }, default = "stdout", help = "with output",
        },
      },
      answers = { [200] = "Journal" },
      run = function(req)
        local node, jid, query = req.node, req.params.jid, req.query
        local job, err = answer.load(node, jid)
        if not job then
          if err.code == "gone" then return not_found(jid) end
          return nil, err
        end
        if job.fields.operation ~= "task" then
          return nil, { code = "bad_request", message = "no task, so it has no journal: " .. jid }
        end
        if query.output then return output_of(req, jid) end
        local page, start
        page, err = history.page(node, jid, query.after, query.count)
        if page and query.start then start, err = history.start(node, job) end
        if err then return nil, err end
        return 200, function(out) return write(out, page, start) end
      end,
    },
  },
}
