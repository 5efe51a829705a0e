-- Tasks with counts of their steps, newest first.
-- $1 tasks · $2 maximum bytes of all returned contexts; the contexts beyond it are null
-- Returns one row per existing task. Each s_ column is an array over groups of equal steps; `s_count` is the size of a group.
-- The lateral join forces a range scan of the key per task, even while the statistics are out of date.
select t.task_id, t.namespace, t.name, t.version, t.environment, t.state, t.priority, t.tags, t.initiator, t.source_system, t.reason,
  t.correlation_id, t.parent_correlation_id, t.created_at, t.paused_at, t.finished_at,
  t.paused_at is not null or exists (
    select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name)) as paused,
  case when sum(octet_length(t.context::text)) over (order by t.task_id desc) <= $2 then t.context::text end as context,
  c.*
from unnest($1::uuid[]) k(task_id),
  lateral (select * from tasker.tasks q where q.task_id = k.task_id offset 0) t,
  lateral (
    select max(g.moved_at) as moved_at, array_agg(g.state) as s_state, array_agg(g.tolerated) as s_tolerated,
      array_agg(g.pending_parents) as s_pending_parents, array_agg(g.retry_due) as s_retry_due, array_agg(g.count) as s_count
    from (
      select s.state, s.tolerated, least(s.pending_parents, 1) as pending_parents,
        s.state = 'waiting_for_retry' and s.wake_at <= tasker.clock() as retry_due, count(*) as count,
        max(greatest(s.dispatched_at, s.started_at, s.finished_at)) as moved_at
      from tasker.steps s where s.task_id = t.task_id group by 1, 2, 3, 4) g) c
order by t.task_id desc
