-- SPDX-License-Identifier: MIT
-- Idempotency-Key: the same request again, with the key that it had, makes no second job and is
-- answered with the first one. That is looked up before anything else is asked of the request:
-- the hosts that it names may have left the inventory since, and its task may be another.
--
--   idempotency.of(request) -> { key, hash } | nil, err     nil alone: the request has none
--     request: method, path, header(name), document (the body, decoded)
--   idempotency.replay(node, request) -> status, answer, headers | nil, err
--     nil alone: it is the first with its key, or another body than the first: whoever makes the
--     job finds that out, for good
--   idempotency.answer(made) -> status, answer, headers     made: of exed.jobs

local json = require "exed.json"
local text = require "exed.text"

local idempotency = {}

local KEY_BYTES <const> = 255

function idempotency.of(request)
  local key = request:header "idempotency-key"
  if not key then return nil end
  if #key > KEY_BYTES or key == "" then
    return nil, {
      code = "bad_request",
      message = ("Idempotency-Key must have 1 to %d bytes"):format(KEY_BYTES),
    }
  end
  return {
    key = key,
    hash = text.sha256(("%s %s\n%s"):format(request.method, request.path,
      json.encode(request.document))),
  }
end

function idempotency.answer(made)
  return 201, { jid = made.jid }, {
    Location = "/jobs/" .. made.jid, ["Idempotent-Replay"] = made.replay and "true" or nil,
  }
end

function idempotency.replay(node, request)
  local found, err = idempotency.of(request)
  if not found then return nil, err end
  local jid
  jid, err = node.store:replayed(found.key, found.hash)
  if not jid then return nil, err end
  if jid ~= "" then return idempotency.answer { jid = jid, replay = true } end
  return nil
end

return idempotency
