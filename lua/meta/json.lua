---@meta exed.json
-- SPDX-License-Identifier: MIT
-- Types of exed.json.

---@class exed.Json
---@field null any stands for null
local json = {}

---@param value any
---@return string
function json.encode(value) end

---@param text string
---@return any value nil when it is no JSON
---@return exed.Error? err
function json.decode(text) end

-- Marks a table as a list, so that an empty one becomes [].
---@generic T: table
---@param list T
---@return T
function json.array(list) end

---@param value any
---@return boolean
function json.is_array(value) end

-- Text that is JSON already.
---@param text string
---@return any
function json.raw(text) end

return json
