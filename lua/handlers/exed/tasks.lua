-- SPDX-License-Identifier: MIT
-- /tasks: the tasks that there are, and running one.

return require("exed.tasks.endpoint").at "/tasks"
