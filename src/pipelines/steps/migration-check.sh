# The whole check is the agent's; its short report goes where the collector finds it.
exec /timetracker/bin/timetracker-agent --termination-message "$REPORTS/migration-check.json" \
  database check ${OWN_PACKAGES:+--own-packages} --workspace "$PWD" --base "$HOME/base" --reports migration-report \
  --migrations "$MIGRATIONS" --models "$MODELS" --timeout "$CHECK_TIMEOUT" --grace 10s \
  --lock-limit "$LOCK_LIMIT"
