-- SPDX-License-Identifier: MIT
-- exed-run exec: a command on hosts.

local operation = require "exed.cli.operation"
local options = require "exed.cli.options"
local stdin = require "exed.cli.stdin"
local stdio = require "exed.stdio"
local text = require "exed.text"

local decl = operation.with {
  { "no-prefix", "N", help = "no host before the lines, and their bytes as they are" },
  { "no-stdin", "n", help = "the command's standard input is empty" },
  stdin.size, stdin.time,
}
decl.usage = { "exed-run exec [OPTION...] PATTERN [--] COMMAND..." }
decl.operands = 1
decl.about = [[
Runs a command on the hosts that PATTERN names, and shows what they say as they say it, each line
with its host before it.

One word as COMMAND is read by sh on each host: 'ls *.log | wc -l'. Several words are a program and
its arguments, and reach it as they are: grep 'a b' '/var/log/x y'.

Standard input, when it is no terminal, is read to its end first and then given to the command on
every host.]]
decl.after = operation.after
local parser = options.compile(decl)

-- One word is text for sh; several are a program and its arguments.
local function command_of(given)
  local list = table.move(given, 2, #given, 1, {})
  if #list == 0 then options.refuse "a command is missing after the pattern" end
  if #list == 1 then
    if not list[1]:find "%S" then options.refuse "the command is empty" end
    return list[1]
  end
  return text.quote(list)
end

local function read_stdin(given, out)
  if given["no-stdin"] or stdio.is_terminal(0) then return nil end
  local bytes, err = stdin.read(given, out, "; -n does without it")
  if bytes then return bytes ~= "" and bytes or nil end
  out:note("standard input is not forwarded: %s", err.message)
end

local function run(argv)
  local given = parser:parse(argv)
  if not given[1] then options.refuse "a pattern and a command are wanted" end
  if given["no-prefix"] and (given.fold or given.json) then
    options.refuse "--no-prefix is for output as it comes, not for --fold or --json"
  end
  return operation.run(given, given[1], {
    operation = "execute", args = { command = command_of(given) }, plain = true,
    stdin_of = function(out) return read_stdin(given, out) end,
  })
end

return { summary = "run a command on hosts", usage = parser.help, run = run }
