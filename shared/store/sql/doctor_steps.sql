-- Pending steps with a wrong pending_parents, ready steps that were not dispatched, unfinished steps of finished tasks, and dispatches
-- that nobody would send again.
-- $1 after this task · $2 up to this one · $3 differences at most
-- Returns the columns of doctor_tasks. A missing parent counts as not done.
select s.task_id, s.no, s.name as step, d.what, d.stored, d.facts, count(*) over () as total
from tasker.steps s
  join tasker.tasks t on t.task_id = s.task_id
  left join lateral (
    select cardinality(s.parents) - count(*) as parents from unnest(s.parents) u(no),
      lateral (select from tasker.steps p where p.task_id = s.task_id and p.no = u.no
        and (p.state in ('complete', 'resolved_manually') or p.tolerated) offset 0) done
    where s.state = 'pending') open on true
  cross join lateral (values
    (s.state = 'pending' and s.pending_parents <> open.parents, 'pending_parents', s.pending_parents::text, open.parents::text),
    (s.state = 'pending' and t.state = 'running' and open.parents = 0 and s.wake_at is null,
      'dispatch', 'pending', 'every parent is done'),
    ((s.wake_at is not null or s.state = 'enqueued') and t.state <> 'running', 'state', s.state, 'its task is ' || t.state),
    (s.state = 'enqueued' and s.wake_at is null and not exists (select from tasker.in_process p where p.task_id = s.task_id),
      'wake_at', null, 'its task is not in in_process')
  ) d(differs, what, stored, facts)
where s.task_id > $1 and s.task_id <= $2 and d.differs
order by s.task_id, s.no limit $3
