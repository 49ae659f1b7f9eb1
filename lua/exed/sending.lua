-- SPDX-License-Identifier: MIT
-- Gets ready what a plan sends to hosts: opens the file, or packs the directory, once per fan-out,
-- however many hosts there are. Waits.
--
--   sending.attach(filled, made, sums) -> sent | true | nil, err
--     made.source: { path or text, max }; made.before(sent) gives the script for it. Or made.files,
--     which exed.plan.files knows.
--     sent: { sha256, size, tree, sum }. sum is the same as long as what is sent is the same: of a
--     directory, whose archive may be another each time, it is made only when sums is true

local config = require "exed.config"
local content = require "exed.content"
local files = require "exed.plan.files"
local proc = require "exed.proc"
local sys = require "exed.sys"

local sending = {}

local PACK_SECONDS <const> = 600

local function fail(format, ...) return nil, { code = "failed", message = format:format(...) } end

-- The archive has no name of its own any more when this returns, so nothing of it is left behind.
-- It is cut where the limit is passed: then it is too long as well. What is in the directory is
-- looked at before and after: then the archive has nothing else.
local PACK <const> = [=[
umask 077
export LC_ALL=C
f=$(mktemp "${TMPDIR:-/tmp}/exed-send.XXXXXX") || exit 1
printf %s "$f"
sum() {
  cd "$1" && {
    find . -printf '%y %m %P\0%l\0' | sort -z
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum
  } | sha256sum
}
[ -z "$3" ] || s=$(sum "$1")
tar -C "$1" -cf - . | head -c "$2" >"$f"
[ -z "$3" ] || {
  [ "$(sum "$1")" = "$s" ] || echo 'it changed while it was read' >&2
  printf '\n%s' "${s%% *}"
}
]=]

local function pack(dir, max, sums)
  local found, err = proc.run {
    argv = {
      "/bin/sh", "-c", PACK, "sh", dir, ("%d"):format(max + 1), sums and "sums" or "",
    }, timeout = PACK_SECONDS, max = 4096,
  }
  if not found then return nil, err end
  local name, sum = found.stdout:match "^(.*)\n(%x*)$"
  name = name or found.stdout
  local _ <close> = setmetatable({}, { __close = function()
    if name ~= "" then os.remove(name) end
  end })
  if found.code ~= 0 or found.stderr ~= "" then
    return fail("%s cannot be packed: %s", dir, found.stderr:match "^[^\n]*")
  end
  local packed, wrong = content.open(name, max)
  if packed then return packed, sum end
  if wrong.code ~= "limit" then return nil, wrong end
  return fail("%s: its archive has more than %d bytes, the limit", dir, max)
end

-- What is sent, and for a directory true and its sum; or nil, err.
local function open(source, sums)
  if source.text then return content.text(source.text) end
  local stat = sys.stat(source.path)
  if not stat then return fail("there is no file %s", source.path) end
  if stat.type == "directory" then
    local packed, found = pack(source.path, source.max, sums)
    if not packed then return nil, found end
    return packed, nil, true, found
  end
  return content.open(source.path, source.max)
end

-- Puts what made sends into the filled plan. Without anything to send it is done already.
function sending.attach(filled, made, sums)
  if made.files then return files.attach(filled, made.files, config.ssh.max_file) end
  if not made.source then return true end
  local opened, err, tree, sum = open(made.source, sums)
  if not opened then return nil, err end
  local sent = { sha256 = opened:sha256(), size = opened:size(), tree = tree }
  if tree then sent.sum = sum else sent.sum = sent.sha256 end
  local before, wrong = made.before(sent)
  if not before then return fail("%s", wrong) end
  filled.content, filled.before = opened, before
  return sent
end

-- Adds to the records of what was sent what it was. sent: from attach.
function sending.note(records, sent)
  if sent == true then return end
  for _, record in ipairs(records) do
    if record.status == 1 or record.status == 5 then record.checksum = sent.sha256 end
  end
end

return sending
