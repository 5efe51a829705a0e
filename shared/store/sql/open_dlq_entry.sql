-- Notes that a message about a step was given up, or is about to be. Answers the entry; nothing when the task has one of that reason, or is not there.
-- $1 task, $2 number of the step, $3 the true word for it, $4 what is known of the message, as JSON
insert into tasker.dlq_entries (task_id, no, original_state, reason, reason_detail, snapshot, created_at, updated_at)
select t.task_id, $2, t.state, 'manual_dlq', $3, $4::json, tasker.clock(), tasker.clock() from tasker.tasks t where t.task_id = $1
on conflict (task_id, reason) where status = 'pending' do nothing
returning dlq_entry_id
