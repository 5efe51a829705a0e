-- Opens a DLQ entry about a message that became a dead letter, or is at its last receive.
-- $1 task · $2 step number · $3 reason_detail · $4 what is known of the message, a JSON object that may have `lease` and `reason`
-- Returns the entry's id; no row if the task already has an open entry of this reason or does not exist.
select e.dlq_entry_id from tasker.open_entry(
  $1, $2, 'manual_dlq', $3, $4::json->>'reason', ($4::json->>'lease')::int, $4::json) e(dlq_entry_id)
where e.dlq_entry_id is not null
