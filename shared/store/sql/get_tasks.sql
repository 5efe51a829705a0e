-- Tasks with how their steps stand, newest first.
-- $1 tasks · $2 bytes of contexts: of the first ones that fit together; the others are null
-- Answers one row for each task that exists. Steps are counted by a range of their key for each task, whatever the statistics say.
select t.task_id, t.namespace, t.name, t.version, t.environment, t.state, t.priority, t.tags, t.initiator, t.source_system, t.reason,
  t.correlation_id, t.parent_correlation_id, t.created_at, t.finished_at, t.total_steps,
  t.paused_at is not null or exists (
    select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name)) as paused,
  case when sum(octet_length(t.context::text)) over (order by t.task_id desc) <= $2 then t.context::text end as context,
  greatest(t.created_at, t.paused_at, t.finished_at, c.moved_at) as updated_at,
  c.pending, c.waiting_for_retry, c.in_progress, c.done, c.failed, c.cancelled, c.ready
from unnest($1::uuid[]) k(task_id),
  lateral (select * from tasker.tasks q where q.task_id = k.task_id offset 0) t,
  lateral (
    select count(*) filter (where s.state = 'pending') as pending,
      count(*) filter (where s.state = 'waiting_for_retry') as waiting_for_retry,
      count(*) filter (where s.state in ('enqueued', 'in_progress')) as in_progress,
      count(*) filter (where s.state in ('complete', 'resolved_manually') or s.tolerated) as done,
      count(*) filter (where s.state = 'error' and not s.tolerated) as failed,
      count(*) filter (where s.state = 'cancelled') as cancelled,
      count(*) filter (where t.state = 'running' and (s.state = 'pending' and s.pending_parents = 0
        or s.state = 'waiting_for_retry' and s.wake_at <= tasker.clock())) as ready,
      max(greatest(s.handed_over_at, s.started_at, s.finished_at)) as moved_at
    from tasker.steps s where s.task_id = t.task_id) c
order by t.task_id desc
