-- Pending steps with a wrong pending_parents, ready steps that were not dispatched, unfinished steps of finished tasks, dispatches that
-- nobody would send again, batches whose places are not those of their workers, and batches that give no place to a worker that waits: one
-- before the last that got its place, or any although no worker failed.
-- $1 after this task · $2 up to this one · $3 differences at most
-- Returns the columns of doctor_tasks. A missing parent counts as not done; a worker that waits for a place has one open parent more.
select s.task_id, s.no, s.name as step, d.what, d.stored, d.facts, count(*) over () as total
from tasker.steps s
  join tasker.tasks t on t.task_id = s.task_id
  left join lateral (
    select cardinality(s.parents) - count(*) + (s.no & 16383 > 0 and s.held_at is null and exists (
        select from tasker.batches b where b.task_id = s.task_id and b.no = s.no & ~16383))::int as parents from unnest(s.parents) u(no),
      lateral (select from tasker.steps p where p.task_id = s.task_id and p.no = u.no
        and (p.state in ('complete', 'resolved_manually') or p.tolerated) offset 0) done
    where s.state = 'pending') open on true
  cross join lateral (values
    (s.state = 'pending' and s.pending_parents <> open.parents, 'pending_parents', s.pending_parents::text, open.parents::text),
    (s.state = 'pending' and t.state = 'running' and open.parents = 0 and s.wake_at is null,
      'dispatch', 'pending', 'every parent is done'),
    ((s.wake_at is not null or s.state = 'enqueued') and t.state <> 'running', 'state', s.state, 'its task is ' || t.state),
    (s.state = 'enqueued' and s.wake_at is null and not exists (select from tasker.in_process p where p.task_id = s.task_id),
      'wake_at', null, 'its task is not in in_process'),
    (s.held_at is not null and (s.wake_at is null or s.state not in ('pending', 'waiting_for_retry')), 'held_at', s.state, 'no pause holds it')
  ) d(differs, what, stored, facts)
where s.task_id > $1 and s.task_id <= $2 and d.differs
union all
select b.task_id, b.no, null, d.what, d.stored, d.facts, count(*) over ()
from tasker.batches b
  cross join lateral (
    select count(*) filter (where tasker.is_active(s.state, s.wake_at)) as running,
      min(s.no) filter (where s.state = 'pending' and s.pending_parents > 0) as waiting,
      count(*) filter (where s.state = 'error' and not s.tolerated) as failed
    from tasker.steps s where s.task_id = b.task_id and s.no > b.no and s.no <= b.no + b.workers) w
  cross join lateral (values
    (b.running <> w.running, 'running', b.running::text, w.running::text),
    (w.waiting <= b.next, 'next', b.next::text, 'step ' || w.waiting || ' waits for a place'),
    (not b.open and w.failed = 0, 'open', 'false', 'no worker failed'),
    (b.open and b.running < b.parallelism and w.waiting is not null and exists (
      select from tasker.tasks t where t.task_id = b.task_id and t.state = 'running'),
      'places', b.running || ' of ' || b.parallelism, 'step ' || w.waiting || ' waits for a place')
  ) d(differs, what, stored, facts)
where b.task_id > $1 and b.task_id <= $2 and d.differs
order by 1, 2 limit $3
