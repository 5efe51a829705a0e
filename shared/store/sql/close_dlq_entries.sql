-- Closes DLQ entries about something that did not happen under a lease, whose step has moved on since, and those of stale tasks that have ended.
-- $1 the maximum number of entries
with settled as (
  select d.dlq_entry_id from tasker.dlq_entries d
  where d.status = 'pending' and d.reason in ('manual_dlq', 'worker_unavailable', 'staleness_timeout')
    and case when d.lease is not null and not exists (
        select from tasker.steps s where s.task_id = d.task_id and s.no = d.no and s.lease = d.lease and s.finished_at is null)
      then not exists (select from tasker.tasks t where t.task_id = d.task_id and t.state = 'error' and d.reason = 'staleness_timeout')
      when d.reason = 'staleness_timeout'
      then not exists (select from tasker.tasks t where t.task_id = d.task_id and t.state in ('running', 'error'))
      else false end
  order by d.created_at limit $1 for update skip locked
)
update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = 'tasker',
  notes = case when d.lease is null then 'the task has ended' else 'the step has progressed' end,
  resolved_at = tasker.clock(), updated_at = tasker.clock()
from settled where d.dlq_entry_id = settled.dlq_entry_id
