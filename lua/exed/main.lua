-- SPDX-License-Identifier: MIT
-- What `exed` runs: one node, from start to end.

local node = require "exed.node"

local self, err = node.start()
if not self then error(err.message, 0) end
self:serve()
