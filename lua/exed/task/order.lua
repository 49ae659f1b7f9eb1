-- SPDX-License-Identifier: MIT
-- The order in which each.window and each.batch take hosts.

local order = {}

local function reversed(list)
  local new = {}
  for i = #list, 1, -1 do new[#new + 1] = list[i] end
  return new
end

-- Fisher and Yates, with the job's own chance.
local function shuffled(rt, list)
  local new = table.move(list, 1, #list, 1, {})
  for i = #new, 2, -1 do
    local j = rt:chance(i)
    new[i], new[j] = new[j], new[i]
  end
  return new
end

-- The failure domain of a host: the text of its variable, "" without it.
function order.domain(host, var)
  local value = host.vars[var]
  return value == nil and "" or tostring(value)
end

-- Neighbours come from different domains as long as there are different ones: each time the domain
-- with the most hosts left, but not the last one again.
local function spread(list, var)
  local names, waiting = {}, {}
  for _, host in ipairs(list) do
    local name = order.domain(host, var)
    if not waiting[name] then
      waiting[name] = { first = 1 }
      names[#names + 1] = name
    end
    table.insert(waiting[name], host)
  end
  local new, last = {}, nil
  for _ = 1, #list do
    local best, most = nil, 0
    for _, name in ipairs(names) do
      local left = #waiting[name] - waiting[name].first + 1
      if left > most and name ~= last then best, most = name, left end
    end
    best = best or last
    local queue = waiting[best]
    new[#new + 1] = queue[queue.first]
    queue.first, last = queue.first + 1, best
  end
  return new
end

-- A new list of the hosts in the order that the options say.
function order.of(rt, list, options)
  local new = table.move(list, 1, #list, 1, {})
  if options.order == "reverse" then new = reversed(new) end
  if options.order == "random" then new = shuffled(rt, new) end
  if options.domain then new = spread(new, options.domain) end
  return new
end

return order
