-- SPDX-License-Identifier: MIT
-- Getting a small file from hosts: the operation fetch, which the executors ssh and local share.
-- Its bytes are the record's stdout.
--
--   fetch.plan("ssh", request.args) -> plan | nil, message     args: src, max (bytes)

local text = require "exed.text"

local fetch = {}

fetch.MAX = 64 << 10 -- bytes; what a task sees of one stream
local TIMEOUT <const> = 60

-- One byte more than may be is asked for, so that a file that is too long is known as such.
local SCRIPT <const> = [=[
if [ -d "$src" ]; then
  echo "$src is a directory" >&2
  exit 1
fi
[ -r "$src" ] || exec cat "$src"
size=$(wc -c <"$src") || exit 1
if [ "$size" -gt "$max" ]; then
  printf '%s has %s bytes, and at most %s are fetched\n' "$src" $size "$max" >&2
  exit 1
fi
exec head -c "$max" "$src"
]=]

function fetch.plan(transport, args)
  if type(args.src) ~= "string" or not args.src:find "^/" then
    return nil, "src must be an absolute path"
  end
  local max = args.max or fetch.MAX
  if max > fetch.MAX then return nil, ("max may be %d bytes at most"):format(fetch.MAX) end
  return {
    transport = transport,
    command = ("src=%s\nmax=%d\n%s"):format(text.quote { args.src }, max, SCRIPT),
    verdict = { [0] = "OK", default = "FAILED" },
    timeout = TIMEOUT,
    repeatable = true,
  }
end

return fetch
