-- SPDX-License-Identifier: MIT
-- The private directory (0700) of one run of a local process, below the node's state directory; its
-- files are 0600. Removed when the run ends; what a former life of the node left, when it starts.
--
--   dir.make(path, names) -> true | nil, err      with these files in it, empty, and tmp/
--   dir.write(path, name, text) -> true | nil, err
--   dir.remove(path)
--   dir.place(state, kind)                        where those of a kind are
--   dir.sweep(state, kind)

local proc = require "exed.proc"
local sys = require "exed.sys"

local dir = {}

local MAKE <const> = [[
umask 077
d=$1
shift
rm -rf -- "$d" && mkdir -p -- "$d/tmp" && cd -- "$d" && for f; do : >"$f" || exit 1; done
]]

function dir.make(path, names)
  local argv = { "/bin/sh", "-c", MAKE, "sh", path, table.unpack(names) }
  local done, err = proc.run { argv = argv }
  if not done then return nil, err end
  if done.code == 0 then return true end
  return nil, { code = "system", message = "cannot make " .. path .. ": " .. done.stderr }
end

function dir.write(path, name, text)
  local file, problem = io.open(path .. "/" .. name, "w")
  if not file then return nil, { code = "system", message = problem } end
  local ok, why = file:write(text)
  ok = file:close() and ok
  if ok then return true end
  return nil, { code = "system", message = ("cannot write %s/%s: %s"):format(path, name, why) }
end

function dir.remove(path) proc.run { argv = { "rm", "-rf", "--", path } } end

function dir.place(state, kind) return state .. "/" .. kind end

function dir.sweep(state, kind)
  if sys.stat(dir.place(state, kind)) then dir.remove(dir.place(state, kind)) end
end

return dir
