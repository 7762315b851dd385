#!lua
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
local id, path, deadline, since, fence, lease, newHolder, newReason, traceparent, ifVersion, timeToLive,
  givenLabel, action = unpack(ARGV)
local resultKey = action and KEYS[2]
if operation == id then
  -- Sent again because the reply was lost: this version is its own work. It is written again, so that a WAIT on this
  -- connection waits for a write of this connection.
  call("HSET", key, "o", id)
  outcome = 1
elseif deadline and deadline ~= "" and now > tonumber(deadline) then
  -- Whoever sent it has given it up, or a clock was set. The query may have come full circle since it was sent.
  outcome = since and since ~= "" and -2 or -4
elseif fence ~= version and since and since ~= ""
  and (tonumber(version) or fence and fence ~= "" and 1 / 0 or 0) > tonumber(since) then
  -- Sent again, and the query has moved since it was first sent, perhaps by this very command, and then by others. They
  -- may have moved it back to where the command would be accepted once more. A claimed record that is gone may have
  -- been given its outcome by this very command, and have expired.
  outcome = -2
elseif fence and fence ~= "" and fence ~= version then
  outcome = -1
elseif (not expiresAt or fence == version or find(path, "^cancel"))
  and (not ifVersion or ifVersion == "" or ifVersion == (version or "0")) then
  -- The whole path is accepted, or none of it.
  local to, moves = state or "known", {}
  for event in string.gmatch(path, "%S+") do
    local from = to
    to = nil
    if from == "known" then
      if event == "queue" then
        to = "queued"
      end
    elseif from == "queued" then
      if event == "execute" then
        to = "executing"
      elseif event == "cancel" then
        to = "cancelled"
      end
    elseif from == "executing" then
      if event == "finish" then
        to = "completed"
      elseif event == "error" then
        to = "errored"
      elseif event == "cancel" then
        to = "cancelled"
      end
    elseif from == "completed" or from == "errored" or from == "cancelled" or from == "reset_failed" then
      if event == "reset" then
        to = "resetting"
      end
    elseif from == "resetting" then
      if event == "error" then
        to = "reset_failed"
      elseif event == "finish_resetting" then
        to = "known"
      end
    end
    if not to then break end
    moves[#moves + 1], moves[#moves + 2] = event, to
  end
  if to and version and tonumber(version) + #moves / 2 > 8640000000000000 then
    outcome = -3
  elseif to then
    outcome = 1
    -- An argument that is empty or absent becomes false: nil would end a reply.
    local newExpiresAt = lease and lease ~= "" and format("%.0f", nowMillis + lease) or false
    newHolder = newHolder ~= "" and newHolder or false
    newReason = newReason ~= "" and newReason or false
    traceparent = traceparent ~= "" and traceparent or false
    keepMillis = timeToLive ~= "" and timeToLive or false
    newLabel = givenLabel ~= "" and givenLabel or false
    label = newLabel or label
    for index = 1, #moves, 2 do
      local event, to = moves[index], moves[index + 1]
      local isPending = to == "queued" or to == "executing" or to == "resetting"
      local isFailed = to == "errored" or to == "cancelled" or to == "reset_failed"
      if isPending then trace = traceparent end
      if event == "execute" then
        attempts = format("%.0f", (attempts or 0) + 1)
      elseif event == "finish" then
        attempts = false
      elseif event == "cancel" and state == "executing"
        and newReason == '{"_tag":"Interrupted"}' and attempts then
        attempts = tonumber(attempts) > 1 and format("%.0f", attempts - 1)
      end
      before = before or (state or "known") .. " " .. (version or 0) .. " 0"
      local micros = version and tonumber(version) >= now and tonumber(version) + 1 or now
      version, operation = format("%.0f", micros), id
      changedAt = floor(micros / 1000) ~= nowMillis and format("%.0f", nowMillis)
      expiresAt, reason, progress, trace = isPending and newExpiresAt, isFailed and newReason, false, trace
      attempts, keptUntil, waitsFor = attempts, false, false
      state, holder = to, isPending and newHolder
    end
  end
end
if resultKey then
  if action == "get" and outcome == 0 then
    -- Whatever else is there is no result.
    results = redis.pcall("HMGET", resultKey, "sv", "s", "fv", "f")
    if results.err then results = {} end
  elseif action == "drop" and (outcome == 1
    or outcome == 0 and (state or "known") == "known") then
    call("DEL", resultKey)
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
