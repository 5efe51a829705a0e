-- Closes entries about messages whose step has moved on since: nobody need look at them any more.
-- $1 rows
with settled as (
  select d.dlq_entry_id from tasker.dlq_entries d
  where d.status = 'pending' and d.reason in ('manual_dlq', 'worker_unavailable') and d.snapshot->>'lease' is not null
    and not exists (select from tasker.steps s where s.task_id = d.task_id and s.no = d.no
      and s.lease = (d.snapshot->>'lease')::int and s.state in ('enqueued', 'in_progress', 'waiting_for_retry'))
  order by d.created_at limit $1 for update skip locked
)
update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = 'tasker', notes = 'the step has moved on',
  resolved_at = tasker.clock(), updated_at = tasker.clock()
from settled where d.dlq_entry_id = settled.dlq_entry_id
