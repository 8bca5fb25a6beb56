"""The Lua side of the TSP interpreter: what is taken away from the language, and how a Namespace becomes a table."""

PRELUDE = r"""
local sethook, load_text, raise, getmeta = debug.sethook, loadstring, error, getmetatable
local setmeta, select, unpack, typeof, find = setmetatable, select, unpack, type, string.find
local full_collect = collectgarbage

-- Files, the host program, bytecode and anything the instruction counter cannot follow are not there.
for _, name in ipairs({"io", "os", "require", "package", "module", "dofile", "loadfile", "load", "python", "debug",
                       "coroutine", "newproxy", "setfenv", "getfenv"}) do
  _G[name] = nil
end
string.dump = nil
collectgarbage = function() return full_collect("collect") end
loadstring = function(text, name)
  if typeof(text) ~= "string" or find(text, "\27", 1, true) then return nil, "not a text" end
  return load_text(text, name)
end

local handles = setmeta({}, {__mode = "k"})

local function wrap(f)
  return function(...)
    local n = select("#", ...)
    if n == 0 then return f() end
    if n == 1 then
      local a = ...
      return f(handles[a] or a)
    end
    local arguments = {...}
    for k = 1, n do
      local a = arguments[k]
      if a ~= nil then arguments[k] = handles[a] or a end
    end
    return f(unpack(arguments, 1, n))
  end
end

local function make(name, getters, setters, static, handle, item)
  local visible = {}
  if handle ~= nil then handles[visible] = handle end
  return setmeta(visible, {
    __metatable = false,
    __index = function(_, key)
      local get = getters[key]
      if get then return get() end
      local value = static[key]
      if value == nil and item and typeof(key) == "number" then return item(key) end
      return value
    end,
    __newindex = function(_, key, value)
      local set = setters[key]
      if set then
        set(handles[value] or value)
      elseif getters[key] or static[key] ~= nil then
        raise("attribute `" .. name .. "." .. tostring(key) .. "' cannot be modified", 2)
      else
        raise("unknown attribute `" .. name .. "." .. tostring(key) .. "'", 2)
      end
    end,
  })
end

local function callable(visible, run)
  local meta = {__metatable = false, __call = function() return run() end, __index = visible}
  return setmeta({}, meta)
end

-- The first alarm raises an error; from then on every instruction does, so that no pcall can outlive it.
local function again() raise("too many instructions", 0) end
local function alarm() sethook(again, "", 1) raise("too many instructions", 0) end

return {wrap = wrap, make = make, callable = callable, compile = load_text, sethook = sethook, alarm = alarm}
"""
