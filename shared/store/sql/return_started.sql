-- Recovery when a process takes the ownership of the database: started steps run again under the same lease, because the workers of
-- the previous process have ended. Dispatches to an external queue are also returned. Steps that await a callback stay.
-- A locked step stays too: the start does not wait for it, and a sweep finds it at its deadline.
with open as (
  select s.task_id, s.no from tasker.steps s
  where s.wake_at is not null and s.wake_at < 'infinity'
    and (s.state = 'enqueued' or (s.state = 'in_progress' and not s.awaits_callback))
  order by s.task_id, s.no for update skip locked)
update tasker.steps s set state = 'enqueued', wake_at = 'infinity' from open o where s.task_id = o.task_id and s.no = o.no
