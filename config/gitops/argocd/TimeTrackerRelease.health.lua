local health = {status = "Progressing", message = "waiting for the operator"}
if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "suspended"}
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "the newest spec is not observed yet"
  return health
end
local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return {status = "Degraded", message = conditions.Stalled.reason .. ": " .. conditions.Stalled.message}
end
if conditions.Reconciling ~= nil and conditions.Reconciling.status == "True" then
  health.message = conditions.Reconciling.message
  return health
end
if conditions.Ready ~= nil and conditions.Ready.status == "True" then
  return {status = "Healthy", message = conditions.Ready.message}
end
-- Waits for a person, or keeps another version than the spec names on purpose: neither done nor broken.
if conditions.Ready ~= nil and (conditions.Ready.status == "False" or conditions.Ready.reason == "Held") then
  return {status = "Suspended", message = conditions.Ready.reason .. ": " .. conditions.Ready.message}
end
if conditions.Ready ~= nil then
  health.message = conditions.Ready.message
end
return health
