-- Closes DLQ entries about messages whose step has progressed since.
-- $1 the maximum number of entries
with settled as (
  select d.dlq_entry_id from tasker.dlq_entries d
  where d.status = 'pending' and d.reason in ('manual_dlq', 'worker_unavailable') and d.snapshot->>'lease' is not null
    and not exists (select from tasker.steps s where s.task_id = d.task_id and s.no = d.no
      and s.lease = (d.snapshot->>'lease')::int and s.state in ('enqueued', 'in_progress', 'waiting_for_retry'))
  order by d.created_at limit $1 for update skip locked
)
update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = 'tasker', notes = 'the step has progressed',
  resolved_at = tasker.clock(), updated_at = tasker.clock()
from settled where d.dlq_entry_id = settled.dlq_entry_id
