-- SPDX-License-Identifier: MIT
-- exed-run openapi: the API's document, of the handlers that this configuration has.

local config = require "exed.config"
local json = require "exed.json"
local openapi = require "exed.api.openapi"
local options = require "exed.cli.options"
local plugins = require "exed.plugins"
local schema = require "exed.schema"
local sys = require "exed.sys"

local parser = options.compile {
  usage = { "exed-run openapi" },
  about = "Prints the document of the API, OpenAPI 3.1, as /openapi.json has it, but without what "
    .. "tasks take; for programs that make clients of it.",
}

local function run(argv)
  local given = parser:parse(argv)
  if given[1] then options.refuse("no word is wanted, %d were given", #given) end
  schema.json.null = json.null
  local found = plugins.open { config = config }
  print(json.encode(openapi.document { handlers = found.handlers, version = sys.version() }))
  return 0
end

return { summary = "the document of the API", usage = parser.help, run = run }
