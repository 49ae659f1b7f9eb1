---@meta exed.http
-- SPDX-License-Identifier: MIT
-- Types of exed.http, as tasks and scripts have it.

---@class exed.HttpOptions
---@field timeout? exed.Duration 30
---@field retries? integer 0
---@field delay? exed.Duration 2
---@field headers? table<string, exed.Text>
---@field body? exed.Text
---@field repeatable? boolean may be asked again when a crash left it unsettled

---@class exed.HttpAnswer
---@field status integer
---@field headers table<string, string>
---@field body string at most 1 MiB
---@field json? any the body, when it is JSON
---@field truncated? boolean

---@class exed.Http
local http = {}

-- nil, err when there was no answer; a 500 is an answer.
---@param url string
---@param options? exed.HttpOptions
---@return exed.HttpAnswer? answer
---@return exed.Error? err
function http.get(url, options) end

-- Carries an Idempotency-Key.
---@param url string
---@param options? exed.HttpOptions
---@return exed.HttpAnswer? answer
---@return exed.Error? err
function http.post(url, options) end

---@param method string "PUT"
---@param url string
---@param options? exed.HttpOptions
---@return exed.HttpAnswer? answer
---@return exed.Error? err
function http.request(method, url, options) end

return http
