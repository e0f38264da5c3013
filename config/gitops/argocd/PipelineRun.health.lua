local health = {status = "Progressing", message = "waiting for the operator"}
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end
for _, condition in ipairs(obj.status.conditions or {}) do
  if condition.type == "Succeeded" then
    if condition.status == "True" then
      return {status = "Healthy", message = condition.message}
    end
    if condition.status == "False" then
      return {status = "Degraded", message = condition.reason .. ": " .. condition.message}
    end
    health.message = condition.message
  end
end
return health
