-- SPDX-License-Identifier: MIT
-- The `files` of a plan: sent in one stream, before the command, to a file that only its owner can
-- read. Its checksum is compared on the host; only then does the op take its place in the fence,
-- put each file beside its dest and rename it, and run the command.
--
--   files.read(list) -> files                       checked; raises { wrong }
--   files.find(files, name, config) -> true | nil, text     name: of the executor, whose src it is
--   files.attach(filled, files, max) -> true | nil, err     waits: reads them, once for all hosts
--
-- What the command is to read on its stdin goes the same way.

local content = require "exed.content"
local proc = require "exed.proc"
local sh = require "exed.ops.copy_sh"
local sys = require "exed.sys"
local text = require "exed.text"
local trust = require "exed.trust"
local words = require "exed.words"

local files = {}

local MOST <const> = 100 -- files of one plan
local SECONDS <const> = 600 -- for reading them
local BAD <const> = 125 -- exit code when they cannot be put there
local FAILED <const> = 3
local FIELDS <const> = { src = true, content = true, dest = true, mode = true }
local MODE <const> = "0644"

local function wrong(format, ...) error({ wrong = format:format(...) }, 0) end

local function read_one(i, file)
  if type(file) ~= "table" then wrong("files[%d] must be a table", i) end
  for name, value in pairs(file) do
    if not FIELDS[name] then
      wrong("files[%d]: unknown field %s%s", i, words.show(name),
        words.hint(tostring(name), words.keys(FIELDS)))
    end
    if type(value) ~= "string" then wrong("files[%d].%s must be a string", i, name) end
  end
  if (file.src == nil) == (file.content == nil) then
    wrong("files[%d] wants either src or content", i)
  end
  local dest = file.dest or ""
  if not dest:find "^/.*[^/]$" or dest:find "%z" then
    wrong("files[%d].dest must be the absolute path of a file", i)
  end
  if file.mode and not file.mode:find "^[0-7][0-7][0-7][0-7]?$" then
    wrong('files[%d].mode must be octal digits in quotes, like "0644"', i)
  end
  return { path = file.src, text = file.content, dest = dest, mode = file.mode or MODE }
end

function files.read(list)
  if #list == 0 then wrong "files is empty" end
  if #list > MOST then wrong("files has %d files, at most %d", #list, MOST) end
  local found = {}
  for i, file in ipairs(list) do found[i] = read_one(i, file) end
  return found
end

-- ---- on this node -------------------------------------------------------------------------------

-- A relative src is in files/NAME/ beside the executor's file.
local function find_one(src, name, config)
  if src:find "^/" then return src, sys.stat(src) end
  if ("/" .. src .. "/"):find("/../", 1, true) then return src end
  for _, root in ipairs { config.runner.modules, sys.share() } do
    local path = ("%s/executors/files/%s/%s"):format(root, name, src)
    local stat = sys.stat(path)
    if stat then return path, stat end
  end
  return ("executors/files/%s/%s"):format(name, src)
end

function files.find(list, name, config)
  for i, file in ipairs(list) do
    if file.path then
      local path, stat = find_one(file.path, name, config)
      if not stat then return nil, ("files[%d]: there is no file %s"):format(i, path) end
      if stat.type ~= "file" then return nil, ("files[%d]: %s is no file"):format(i, path) end
      local why = path ~= file.path and trust.why_not(path, stat)
      if why then return nil, ("files[%d]: %s"):format(i, why) end
      file.path = path
    end
  end
  return true
end

-- One file of all parts, without a name when it is open; its size after each part is printed. A
-- part is a path, or -SIZE: so many bytes of stdin.
local PACK <const> = [=[
umask 077
f=$(mktemp "${TMPDIR:-/tmp}/exed-send.XXXXXX") || exit 1
echo "$f"
max=$1
shift
for p; do
  case $p in
  -*) dd iflag=fullblock,count_bytes count="${p#-}" status=none >>"$f" ;;
  *) head -c "$((max + 1))" -- "$p" >>"$f" ;;
  esac || exit 1
  stat -c %s "$f"
done
]=]

local function fail(format, ...) return nil, { code = "failed", message = format:format(...) } end

-- The content of all parts, and where each of them begins, from 1 on, and ends.
local function open_paths(parts, max)
  local argv, texts = { "/bin/sh", "-c", PACK, "sh", ("%d"):format(max) }, {}
  for _, part in ipairs(parts) do
    argv[#argv + 1] = part.path or ("-%d"):format(#part.text)
    if part.text then texts[#texts + 1] = part.text end
  end
  local found, err = proc.run {
    argv = argv, stdin = table.concat(texts), timeout = SECONDS, max = 64 << 10,
  }
  if not found then return nil, err end
  local name = found.stdout:match "^[^\n]*"
  local _ <close> = setmetatable({}, { __close = function()
    if name ~= "" then os.remove(name) end
  end })
  if found.code ~= 0 then return fail("files: %s", found.stderr:match "^[^\n]*") end
  local ends = {}
  for size in found.stdout:sub(#name + 2):gmatch "%d+" do ends[#ends + 1] = math.tointeger(size) end
  local opened
  opened, err = content.open(name, max)
  return opened, opened and ends or err
end

local function open_texts(parts, max)
  local texts, ends, size = {}, {}, 0
  for i, part in ipairs(parts) do
    texts[i], size = part.text, size + #part.text
    ends[i] = size
  end
  if size > max then return fail("files have %d bytes, more than %d, the limit", size, max) end
  local opened, err = content.text(table.concat(texts))
  return opened, opened and ends or err
end

local function open(parts, max)
  for _, part in ipairs(parts) do
    if part.path then return open_paths(parts, max) end
  end
  return open_texts(parts, max)
end

-- ---- on the host --------------------------------------------------------------------------------

local DEST <const> = "bad=125 dest=${TMPDIR:-/tmp}/files\n"

local PUT <const> = [=[
newline='
'
no() {
  rm -f "$t" "$t.in"
  printf '%s\n' "$1" >&2
  exit 125
}
cut() {
  e=$( (umask 077; set -C; tail -c +"$2" "$t" | head -c "$3" >"$1") 2>&1)
  [ "$(wc -c <"$1" 2>/dev/null)" -eq "$3" ] 2>/dev/null && return
  rm -f "$1"
  e=${e%%"$newline"*}
  no "cannot write $4: ${e##*: }"
}
put() {
  [ -d "${1%/*}/" ] || no "there is no directory ${1%/*}"
  [ ! -d "$1" ] || no "$1 is a directory"
  n=${1%/*}/.exed-$EXED_OP.$PPID.$2
  cut "$n" "$2" "$3" "$1"
  e=$(chmod "$4" "$n" 2>&1 && mv -f "$n" "$1" 2>&1) && return
  rm -f "$n"
  no "cannot put $1 in place: ${e##*: }"
}
]=]

local IN <const> = [=[
exec <"$t.in"
]=]
local DONE <const> = [=[
rm -f "$t" "$t.in"
unset bad dest dir op t newline n e
unset -f no own all cut put
]=]

-- What stands before the command. ends: of the parts; the last of them is stdin when has_stdin.
local function head_of(list, ends, has_stdin)
  local lines = { DEST, sh.NAMES, PUT }
  local from = 1
  for i, file in ipairs(list) do
    lines[#lines + 1] = ("put %s %d %d %s\n"):format(text.quote { file.dest }, from,
      ends[i] - from + 1, file.mode)
    from = ends[i] + 1
  end
  if has_stdin then
    local size = ends[#ends] - from + 1
    lines[#lines + 1] = ('cut "$t.in" %d %d "its stdin"\n'):format(from, size) .. IN
  end
  lines[#lines + 1] = DONE
  return table.concat(lines)
end

local function tidy_of(list)
  local places = { 'rm -f "${TMPDIR:-/tmp}"/.exed-"$x_o".*' }
  for _, file in ipairs(list) do
    places[#places + 1] = text.quote { file.dest:match "^(.*)/" } .. '/.exed-"$x_o".*'
  end
  return table.concat(places, " ")
end

function files.attach(filled, list, max)
  local parts = table.move(list, 1, #list, 1, {})
  if filled.stdin then parts[#parts + 1] = { text = filled.stdin } end
  local opened, ends = open(parts, max)
  if not opened then return nil, ends end
  filled.head = head_of(list, ends, filled.stdin ~= nil)
  filled.content, filled.stdin = opened, nil
  filled.before = DEST .. ("sha256=%s\n"):format(opened:sha256()) .. sh.NAMES .. sh.RECEIVE
    .. 'receive "$t"\n'
  filled.command, filled.tidy = filled.head .. filled.command, tidy_of(list)
  filled.verdict[BAD] = FAILED
  return true
end

return files
