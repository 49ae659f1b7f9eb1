-- SPDX-License-Identifier: MIT
-- exed.job for scripts of exed-run; a task gets its own.

return require("exed.script").modules.job
