-- SPDX-License-Identifier: MIT
-- exed.hosts for scripts of exed-run; a task gets its own.

return require("exed.script").modules.hosts
