-- SPDX-License-Identifier: MIT
-- The deploy operation of the executors ssh and local: a role is a directory NAME of [ssh] roles
-- with a deploy.sh in it. The directory is sent to each host, and deploy.sh is run in it there,
-- once (behind the fence), with extra_vars in its environment and partial as its arguments.
--
--   deploy.plan("ssh", request.args) -> plan | nil, message     args: role, partial, extra_vars
--
-- Exit code 0: changed; 10: it was so already; any other: failed. The directory is gone afterwards.

local config = require "exed.config"
local json = require "exed.json"
local sh = require "exed.ops.copy_sh"
local sys = require "exed.sys"
local text = require "exed.text"
local trust = require "exed.trust"
local words = require "exed.words"

local deploy = {}

local VERDICT <const> = { [0] = "CHANGED", [10] = "OK", default = "FAILED" }
local MAX_VARS <const> = 64 << 10 -- bytes of all of them: what one environment surely takes
local SCRIPT <const> = "deploy.sh"

-- Variables by which the fence, the shell and the loader work.
local OURS <const> = {
  BASH_ENV = true, ENV = true, HOME = true, IFS = true, PATH = true, SHELLOPTS = true,
  TMPDIR = true,
}

-- A script that may not be executed where it lies is read by sh. What it starts and leaves running
-- does not hold the directory. Variables that are set here would be set for the role, too.
local RUN <const> = [=[
cd "${TMPDIR:-/tmp}/.exed-$EXED_OP.$PPID" || exit 1
if [ -x ./deploy.sh ]; then
  ./deploy.sh "$@"
else
  sh ./deploy.sh "$@"
fi
x_r=$?
cd /
rm -rf "${TMPDIR:-/tmp}/.exed-$EXED_OP".*
exit "$x_r"
]=]

local DEST <const> = "bad=1 dest=${TMPDIR:-/tmp}/role\n"

local function check_role(role)
  if type(role) ~= "string" then return nil, "role should be string types" end
  if not role:find "^[%w][%w._-]*$" or #role > 255 then
    return nil, ("role: %s is no name of a role: letters, digits, dots, _ and -"):format(
      words.show(role))
  end
  local dir = ("%s/%s"):format(config.ssh.roles, role)
  local path = ("%s/%s"):format(dir, SCRIPT)
  local stat = sys.stat(path)
  if not stat then
    return nil, ("there is no role %s: no file %s ([ssh] roles)"):format(role, path)
  end
  local why = trust.why_not(path, stat)
  if why then return nil, why end
  return dir
end

local function check_partial(partial)
  local list = {}
  for i, word in ipairs(partial or {}) do
    if type(word) ~= "string" or word:find "%z" or #word > 255 then
      return nil, "partial should be string list or omitted"
    end
    list[i] = word
  end
  return list
end

local function to_text(value)
  if type(value) == "table" then return json.encode(value) end
  return value == json.null and "" or tostring(value)
end

-- NAME=value, sorted; nil and what is wrong.
local function environment(vars)
  local list, size = {}, 0
  for name, value in pairs(vars or {}) do
    if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" then
      return nil, ("extra_vars: %s is no name of a variable: letters, digits and _"):format(
        words.show(tostring(name)))
    end
    if OURS[name] or name:find "^EXED_" or name:find "^LD_" or name:find "^x_%l%d*$" then
      return nil, ("extra_vars: %s is not for a role: it is what the run itself stands on")
        :format(name)
    end
    local said = to_text(value)
    if said:find "%z" then return nil, ("extra_vars.%s has a NUL byte"):format(name) end
    list[#list + 1] = name .. "=" .. said
    size = size + #name + #said
  end
  if size > MAX_VARS then
    return nil, ("extra_vars have %d bytes, at most %d"):format(size, MAX_VARS)
  end
  table.sort(list)
  return list
end

local function omitted(value)
  if value == json.null then return nil end
  return value
end

-- How it is done over that transport.
function deploy.plan(transport, args)
  local dir, wrong = check_role(args.role)
  if not dir then return nil, wrong end
  local partial, env
  partial, wrong = check_partial(omitted(args.partial))
  if not partial then return nil, wrong end
  env, wrong = environment(omitted(args.extra_vars))
  if not env then return nil, wrong end
  local tags = #partial > 0 and text.quote(partial) or ""
  return {
    transport = transport,
    source = { path = dir, max = config.ssh.max_file },
    before = function(sent)
      return DEST .. ("sha256=%s\n"):format(sent.sha256) .. sh.NAMES .. sh.RECEIVE .. sh.UNPACK
    end,
    command = ("set -- %s\n"):format(tags) .. RUN,
    tidy = 'rm -rf "${TMPDIR:-/tmp}"/.exed-"$x_o".*',
    env = env,
    verdict = VERDICT,
    fence = true,
  }
end

return deploy
