#!lua flags=allow-oom
local call, key, find, format, floor = redis.call, KEYS[1], string.find, string.format, math.floor
local time = call("TIME")
local now = time[1] * 1000000 + time[2]
local nowMillis = floor(now / 1000)

local state, version, changedAt, holder, expiresAt, reason, progress, trace, operation, attempts, keptUntil, waitsFor,
  label = unpack(call("HMGET", key, "s", "v", "t", "h", "x", "r", "p", "c", "o", "a", "e", "w", "l"))
local storedState, isStoredKept = state, keptUntil
local hasOptional = changedAt or holder or expiresAt or reason or progress or trace or attempts or keptUntil or waitsFor
local outcome, before, isReported, keepMillis, newLabel, results = 0, false, false, false, false, false

-- A record that cannot be right is left alone, and replied as it is.
if (state or version) and not (state and version
  and (not find(version, "%D") and (tonumber(version) or 1 / 0) <= 8640000000000000)
  and (not changedAt or (not find(changedAt, "%D") and (tonumber(changedAt) or 1 / 0) <= 8640000000000000))
  and (not expiresAt or (state == "queued" or state == "executing" or state == "resetting") and (not find(expiresAt, "%D") and (tonumber(expiresAt) or 1 / 0) <= 8640000000000000))
  and (not attempts or (not find(attempts, "%D") and (tonumber(attempts) or 1 / 0) <= 8640000000000000))
  and (not keptUntil or not (state == "queued" or state == "executing" or state == "resetting") and (not find(keptUntil, "%D") and (tonumber(keptUntil) or 1 / 0) <= 8640000000000000))) then
  return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before, progress, trace, keptUntil, waitsFor, label }
end
-- Redis deletes it in the next millisecond, and not at all where another program took its expiry off.
if keptUntil and tonumber(keptUntil) <= nowMillis then
  state, version, changedAt, holder, expiresAt, reason = false, false, false, false, false, false
  progress, trace, operation, attempts, keptUntil, waitsFor, label = false, false, false, false, false, false, false
end

if expiresAt and tonumber(expiresAt) <= nowMillis then
  local event, to
  if state == "queued" then
    event, to = "cancel", "cancelled"
  elseif state == "executing" then
    event, to = "error", "errored"
  elseif state == "resetting" then
    event, to = "error", "reset_failed"
  end
  if event then
    if version and tonumber(version) >= 8640000000000000 then
      outcome = -3
      return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before, progress, trace, keptUntil, waitsFor, label }
    end
    before = (state or "known") .. " " .. (version or 0) .. " 1"
    local micros = version and tonumber(version) >= now and tonumber(version) + 1 or now
    version, operation = format("%.0f", micros), ""
    changedAt = floor(micros / 1000) ~= nowMillis and format("%.0f", nowMillis)
    expiresAt, reason, progress, trace = false, cjson.encode({ _tag = "LeaseExpired", holder = holder or nil }), false, trace
    attempts, keptUntil, waitsFor = state == "resetting" and format("%.0f", (attempts or 0) + 1) or attempts, false, false
    state, holder = to, false
  end
end

if before then
  if state == "known" then attempts = false end
  if keepMillis then keptUntil = format("%.0f", nowMillis + keepMillis) end
  if hasOptional then call("HDEL", key, "t", "h", "x", "r", "p", "c", "a", "e", "w") end
  if storedState == "known" or isStoredKept then call("PERSIST", key) end
  local fields = { "s", state, "v", version, "o", operation }
  if changedAt then fields[7], fields[8] = "t", changedAt end
  if holder then fields[#fields + 1], fields[#fields + 2] = "h", holder end
  if expiresAt then fields[#fields + 1], fields[#fields + 2] = "x", expiresAt end
  if reason then fields[#fields + 1], fields[#fields + 2] = "r", reason end
  if trace then fields[#fields + 1], fields[#fields + 2] = "c", trace end
  if newLabel then fields[#fields + 1], fields[#fields + 2] = "l", newLabel end
  if attempts then fields[#fields + 1], fields[#fields + 2] = "a", attempts end
  if keptUntil then fields[#fields + 1], fields[#fields + 2] = "e", keptUntil end
  call("HSET", key, unpack(fields))
  if keptUntil then call("PEXPIREAT", key, keptUntil) end
  if state == "known" then call("PEXPIRE", key, 60000) end
end
if before or isReported then
  local message = version .. " " .. state
  if changedAt or expiresAt or reason or progress or trace or attempts or keptUntil or waitsFor or label
    or holder then
    message = message .. "\n" .. table.concat({
      changedAt or "", expiresAt or "", reason or "", progress or "", trace or "",
      attempts or "", keptUntil or "", waitsFor or "", label or "", holder or ""
    }, "\n")
  end
  -- A notification must not fail what is written.
  redis.pcall("PUBLISH", key, message)
end
if results then
  return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before, progress, trace, keptUntil,
    waitsFor, label, results }
end
-- Most records have less, and every field costs the client a step of its parser.
if not (progress or trace or keptUntil or waitsFor or label) then
  if before or attempts then
    return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before }
  end
  return { outcome, now, state, version, changedAt, holder, expiresAt, reason }
end
return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before, progress, trace, keptUntil, waitsFor, label }
