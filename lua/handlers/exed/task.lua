-- SPDX-License-Identifier: MIT
-- /task: the tasks that there are, and running one.

return require("exed.tasks.endpoint").at "/task"
