-- Opens the DLQ entry of a stale task, which goes on.
-- $1 task · $2 step number or null · $3 lease or null · $4 the threshold · $5 since when it counts, in milliseconds since 1970
-- $6 more about it, as JSON
-- Returns the entry's id, or null. No row: the task had an entry about the same since then.
select tasker.open_entry($1, $2, 'staleness_timeout', $4, null, $3, $6::text::json) as dlq_entry_id
where not exists (
  select from tasker.dlq_entries d where d.task_id = $1 and d.reason = 'staleness_timeout' and d.reason_detail = $4
    and d.no is not distinct from $2 and d.lease is not distinct from $3 and tasker.epoch_ms(d.created_at) >= $5)
