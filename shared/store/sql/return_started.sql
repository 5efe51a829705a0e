-- At the start of the one process that owns this database: what its predecessor had started is to be run again, under the
-- same lease, since its workers are gone; so is what another kind of queue was to deliver. What awaits a callback stays.
with open as (
  select s.task_id, s.no from tasker.steps s
  where s.wake_at is not null and s.wake_at < 'infinity'
    and (s.state = 'enqueued' or (s.state = 'in_progress' and not s.awaits_callback))
  order by s.task_id, s.no for update)
update tasker.steps s set state = 'enqueued', wake_at = 'infinity' from open o where s.task_id = o.task_id and s.no = o.no
