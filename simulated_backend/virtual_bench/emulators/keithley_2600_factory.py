"""The factory scripts of the 2600B that ship in the instrument, KISweep and KIPulse, as far as this emulator has them.

Written from their descriptions in the reference manual ("TSP command reference": SweepVLinMeasureI() and its like,
ConfigPulseVMeasureI(), InitiatePulseTest()). Readings go to smuX.nvbuffer1 with time stamps and source values.
"""

FACTORY_SCRIPTS = r"""
local function begin(smu, func)
  local buffer = smu.nvbuffer1
  buffer.clear()
  buffer.appendmode = 1
  buffer.collecttimestamps = 1
  buffer.collectsourcevalues = 1
  smu.source.func = func
  return buffer
end

local function sweep(smu, func, values, stime)
  local volts = func == smu.OUTPUT_DCVOLTS
  local buffer = begin(smu, func)
  local was_on = smu.source.output
  if volts then smu.source.levelv = values[1] else smu.source.leveli = values[1] end
  smu.source.output = smu.OUTPUT_ON
  for k = 1, table.getn(values) do
    if volts then smu.source.levelv = values[k] else smu.source.leveli = values[k] end
    delay(stime)
    if volts then smu.measure.i(buffer) else smu.measure.v(buffer) end
  end
  smu.source.output = was_on
end

local function linear(first, last, points)
  local values = {}
  for k = 1, points do values[k] = points > 1 and first + (last - first) * (k - 1) / (points - 1) or first end
  return values
end

local function logarithmic(first, last, points)
  local values = {}
  for k = 1, points do values[k] = points > 1 and first * (last / first) ^ ((k - 1) / (points - 1)) or first end
  return values
end

function SweepVLinMeasureI(smu, startv, stopv, stime, points)
  sweep(smu, smu.OUTPUT_DCVOLTS, linear(startv, stopv, points), stime)
end
function SweepILinMeasureV(smu, starti, stopi, stime, points)
  sweep(smu, smu.OUTPUT_DCAMPS, linear(starti, stopi, points), stime)
end
function SweepVLogMeasureI(smu, startv, stopv, stime, points)
  sweep(smu, smu.OUTPUT_DCVOLTS, logarithmic(startv, stopv, points), stime)
end
function SweepILogMeasureV(smu, starti, stopi, stime, points)
  sweep(smu, smu.OUTPUT_DCAMPS, logarithmic(starti, stopi, points), stime)
end
function SweepVListMeasureI(smu, vlist, stime, points)
  local values = {}
  for k = 1, points do values[k] = vlist[k] end
  sweep(smu, smu.OUTPUT_DCVOLTS, values, stime)
end
function SweepIListMeasureV(smu, ilist, stime, points)
  local values = {}
  for k = 1, points do values[k] = ilist[k] end
  sweep(smu, smu.OUTPUT_DCAMPS, values, stime)
end

-- The reading is the last thing that happens while the pulse is on, as the manual's timing diagrams show.
local function pulses(smu, func, bias, level, ton, toff, points)
  local volts = func == smu.OUTPUT_DCVOLTS
  local buffer = begin(smu, func)
  local integration = smu.measure.nplc / localnode.linefreq
  local function set(x) if volts then smu.source.levelv = x else smu.source.leveli = x end end
  set(bias)
  smu.source.output = smu.OUTPUT_ON
  for k = 1, points do
    set(level)
    delay(math.max(ton - integration, 0))
    if volts then smu.measure.i(buffer) else smu.measure.v(buffer) end
    set(bias)
    delay(toff)
  end
end

function PulseVMeasureI(smu, bias, level, ton, toff, points)
  pulses(smu, smu.OUTPUT_DCVOLTS, bias, level, ton, toff, points)
end
function PulseIMeasureV(smu, bias, level, ton, toff, points)
  pulses(smu, smu.OUTPUT_DCAMPS, bias, level, ton, toff, points)
end

local tests = {}

local function owner(buffer)
  for _, smu in pairs({smua, smub}) do
    if buffer == smu.nvbuffer1 or buffer == smu.nvbuffer2 then return smu end
  end
end

local function configure(func, buffer, bias, level, limit, ton, toff, points, tag)
  local smu = buffer and owner(buffer)
  if not smu then return false, "Buffer must be a dedicated reading buffer." end
  if not tag then return false, "Missing parameter." end
  local volts = func == smu.OUTPUT_DCVOLTS
  local source, measure = smu.source, smu.measure
  if (volts and (source.autorangev == 1 or measure.autorangei == 1))
     or (not volts and (source.autorangei == 1 or measure.autorangev == 1)) then
    return false, "Autorange must be off."
  end
  if smu.measure.nplc / localnode.linefreq >= ton then return false, "Pulse is shorter than the measurement." end
  tests[tag] = {smu = smu, buffer = buffer, volts = volts, bias = bias, level = level, limit = limit, ton = ton,
                toff = toff, points = points, func = func}
  return true, "No errors"
end

function ConfigPulseVMeasureI(buffer, bias, level, limit, ton, toff, points, tag)
  return configure(1, buffer, bias, level, limit, ton, toff, points, tag)
end
function ConfigPulseIMeasureV(buffer, bias, level, limit, ton, toff, points, tag)
  return configure(0, buffer, bias, level, limit, ton, toff, points, tag)
end

local function arm(test)
  local smu, index = test.smu, test.smu == smua and 1 or 2
  local period, width = trigger.timer[2 * index - 1], trigger.timer[2 * index]
  local integration = smu.measure.nplc / localnode.linefreq
  smu.source.func = test.func
  if test.volts then smu.source.levelv = test.bias else smu.source.leveli = test.bias end
  local t = smu.trigger
  if test.volts then
    t.source.listv({test.level})
    t.source.limiti = test.limit
    t.measure.i(test.buffer)
  else
    t.source.listi({test.level})
    t.source.limitv = test.limit
    t.measure.v(test.buffer)
  end
  period.reset()
  period.delay = test.ton + test.toff
  period.count = math.max(test.points - 1, 1)
  period.passthrough = true
  period.stimulus = t.ARMED_EVENT_ID
  width.reset()
  width.delay = math.max(test.ton - integration, 1e-5)
  width.stimulus = period.EVENT_ID
  t.source.action, t.measure.action = 1, 1
  t.source.stimulus = period.EVENT_ID
  t.measure.stimulus = width.EVENT_ID
  t.endpulse.action, t.endpulse.stimulus = smu.SOURCE_IDLE, 0
  t.endsweep.action = smu.SOURCE_IDLE
  t.count, t.arm.count, t.arm.stimulus = test.points, 1, 0
  smu.source.output = smu.OUTPUT_ON
  t.initiate()
end

local function disarm(test)
  local smu, index = test.smu, test.smu == smua and 1 or 2
  trigger.timer[2 * index - 1].reset()
  trigger.timer[2 * index].reset()
  local t = smu.trigger
  t.source.action, t.measure.action, t.source.stimulus, t.measure.stimulus = 0, 0, 0, 0
  t.endpulse.action = smu.SOURCE_HOLD
  t.source.limiti, t.source.limitv = 0, 0
end

local function run(tags)
  for _, tag in ipairs(tags) do
    if not tests[tag] then return false, "No pulse test with this tag." end
  end
  for _, tag in ipairs(tags) do arm(tests[tag]) end
  waitcomplete()
  for _, tag in ipairs(tags) do disarm(tests[tag]) end
  return true, "No errors"
end

function InitiatePulseTest(tag) return run({tag}) end
function InitiatePulseTestDual(tag1, tag2) return run({tag1, tag2}) end
"""
