-- SPDX-License-Identifier: MIT
-- The local executor: operations on the node itself, once for each target; for hosts that the node
-- stands for, and for trying things out.

return {
  type = "executor",
  summary = "runs operations on the node itself, once for each target",
  settings = {},
  operations = require "exed.ops.posix" "local",
}
