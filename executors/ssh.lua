-- SPDX-License-Identifier: MIT
-- The ssh executor: operations over SSH; hosts need nothing but a POSIX sh.

return {
  type = "executor",
  summary = "runs operations on hosts over SSH",
  settings = {},
  operations = require "exed.ops.posix" "ssh",
}
