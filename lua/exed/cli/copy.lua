-- SPDX-License-Identifier: MIT
-- exed-run copy: a file or a directory to hosts.

local operation = require "exed.cli.operation"
local options = require "exed.cli.options"
local output = require "exed.cli.output"
local report = require "exed.cli.report"
local stdin = require "exed.cli.stdin"
local sys = require "exed.sys"

local decl = operation.with {
  { "mode", "m", type = "string", value = "MODE", shown = "that of what is there, else 644",
    help = "of the file, in octal digits" },
  { "owner", "o", type = "string", value = "NAME", help = "user that it is to belong to" },
  { "group", "g", type = "string", value = "NAME", help = "group that it is to belong to" },
  { "backup", help = "keep what was there before, beside it" },
  stdin.size, stdin.time,
}
decl.usage = { "exed-run copy [OPTION...] PATTERN SOURCE DEST" }
decl.about = [[
Sends SOURCE, a file or a directory of this machine (or standard input: -), to the hosts that
PATTERN names, where it becomes DEST, an absolute path with the name.

It is written beside DEST, its checksum is compared there, and then it is renamed: DEST is the old
one or the new one, never half of it. "changed" says that it was sent, "ok" that it was there
already. A link at DEST is replaced. Hosts need no SFTP server; with ansible_become it is written as
that user.]]
decl.after = operation.after
local parser = options.compile(decl)

local function read_stdin(given)
  local bytes, err = stdin.read(given, output.new())
  if bytes then return bytes end
  options.refuse("standard input cannot be sent: %s", err.message)
end

local function run(argv)
  local given = parser:parse(argv)
  if #given ~= 3 then
    options.refuse("a pattern, a source and a destination are wanted, %d words were given", #given)
  end
  local args = {
    dest = given[3], mode = given.mode, owner = given.owner, group = given.group,
    backup = given.backup or nil,
  }
  if given[2] == "-" then
    args.content = read_stdin(given)
  else
    args.src = given[2]
    if not sys.stat(args.src) then options.refuse("there is no file %s", args.src) end
  end
  return operation.run(given, given[1], {
    operation = "copy", args = args, say = function(record) return report.word(record.status) end,
  })
end

return { summary = "send a file or a directory to hosts", usage = parser.help, run = run }
