-- SPDX-License-Identifier: MIT
-- exed.each for scripts of exed-run; a task gets its own.

return require("exed.script").modules.each
