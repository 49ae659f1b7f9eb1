-- SPDX-License-Identifier: MIT
-- The forms in which a job is followed. All but the first show ids, by which a client that lost its
-- connection goes on. In all of them a row's object is {host: record} or {host: {lines ...}}.
--
--   lines      one JSON text a line: the job object, then the rows' objects (EXEd's form)
--   ndjson     {"job": object}  {"id": 7, "entry": object} ...  {"id": 9, "end": {...}}
--              {"id": 7} alone is a sign of life
--   events     Server-Sent Events: event job; one message for each row; event end
--   messages   as ndjson, each in a WebSocket's message of its own
--
-- A form has type (media type, or nil) and texts: before and after the job object, before and after
-- the object of the row with an id, beat (or nil; a text in which the id stands) and finish.

local forms = {}

local RETRY_MS <const> = 2000 -- after which an EventSource comes back

forms.lines = {
  type = "application/json",
  job = { "", "\n" },
  row = function() return "{", "}\n" end,
}

forms.ndjson = {
  type = "application/x-ndjson",
  shows_ids = true,
  job = { '{"job":', "}\n" },
  row = function(id) return ('{"id":%d,"entry":{'):format(id), "}}\n" end,
  beat = function(id) return ('{"id":%d}\n'):format(id) end,
  finish = function(id, ending) return ('{"id":%d,"end":%s}\n'):format(id, ending) end,
}

forms.events = {
  type = "text/event-stream",
  shows_ids = true,
  first = ("retry: %d\n\n"):format(RETRY_MS),
  job = { "event: job\ndata: ", "\n\n" },
  row = function(id) return ("id: %d\ndata: {"):format(id), "}\n\n" end,
  beat = function() return ": alive\n\n" end,
  finish = function(id, ending)
    return ("event: end\nid: %d\ndata: %s\n\n"):format(id, ending)
  end,
}

-- Signs of life are the WebSocket's own: pings.
forms.messages = {
  shows_ids = true,
  job = { '{"job":', "}" },
  row = function(id) return ('{"id":%d,"entry":{'):format(id), "}}" end,
  finish = function(id, ending) return ('{"id":%d,"end":%s}'):format(id, ending) end,
}

-- Those that the Accept header chooses from, the default first.
forms.by_type = {}
forms.types = {}
for _, form in ipairs { forms.lines, forms.ndjson, forms.events } do
  forms.by_type[form.type] = form
  forms.types[#forms.types + 1] = form.type
end

return forms
