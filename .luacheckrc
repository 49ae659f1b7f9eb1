-- SPDX-License-Identifier: MIT
std = "lua54"
max_line_length = 100
codes = true
-- A handler or a plan has the arguments of its contract, used or not.
unused_args = false

-- Types for editors: functions without bodies.
files["lua/meta/*.lua"] = { ignore = { "241" } }

-- This library is loaded into Redis, which has Lua 5.1 and its own globals.
files["lua/store/*.lua"] = {
  std = "lua51",
  read_globals = { "redis", "cjson", "cmsgpack", "bit", "struct" },
}
