-- SPDX-License-Identifier: MIT
-- What the handlers of POST /jobs/JID/VERB have in common.

local verbs = {}

-- The store's words in those of the API.
function verbs.explain(err, jid)
  if err.code == "gone" then
    return { code = "not_found", message = "no such jid " .. jid }
  elseif err.code == "ended" then
    return { code = "ended", message = "the job has ended, jid " .. jid }
  end
  return err
end

-- A handler of that verb. run(req) -> { jid, state }, or nil, err.
function verbs.handler(verb, summary, body, run)
  return {
    type = "handler", path = "/jobs/:jid/" .. verb, dialect = "exed",
    methods = {
      POST = {
        summary = summary, body = body, changes = true, answers = { [200] = "Told" },
        run = function(req)
          local jid = req.params.jid
          if not jid:find "^[%x-]+$" then return nil, verbs.explain({ code = "gone" }, jid) end
          local found, err = run(req)
          if not found then return nil, verbs.explain(err, jid) end
          return 200, { jid = found.jid, state = found.state }
        end,
      },
    },
  }
end

return verbs
