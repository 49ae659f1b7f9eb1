-- SPDX-License-Identifier: MIT
-- For scripts: the core's fan-out over SSH by the name that it has for them.
return require "exed.fanout"
