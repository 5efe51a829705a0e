-- Opens a DLQ entry about a message that became a dead letter, or is at its last receive.
-- $1 task · $2 step number · $3 reason_detail · $4 snapshot of the message, as JSON
-- Returns the entry's id; no row if the task already has an open entry of this reason or does not exist.
insert into tasker.dlq_entries (task_id, no, original_state, reason, reason_detail, snapshot, created_at, updated_at)
select t.task_id, $2, t.state, 'manual_dlq', $3, $4::json, tasker.clock(), tasker.clock() from tasker.tasks t where t.task_id = $1
on conflict (task_id, reason) where status = 'pending' do nothing
returning dlq_entry_id
