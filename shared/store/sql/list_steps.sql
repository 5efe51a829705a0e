-- The steps of a task, or one of them, each with its last applied outcome and its last failure.
-- $1 task · $2 step number, or null for all · $3 maximum bytes of all returned results; the results beyond it are null
-- The answer of a complete step stands in its own row; steps of an older version have it in `attempts`.
-- The inputs only of a single step: those of many workers are large.
-- Returns no row if the task does not exist, and one row without a step if the task has no such step.
select t.state as task_state, t.created_at, t.template_id, t.environment, s.no, s.name, s.state, s.attempt, s.max_attempts,
  s.tolerated, s.pending_parents, cardinality(s.parents) as parents, s.dispatched_at, s.started_at, s.finished_at,
  case s.state when 'waiting_for_retry' then s.wake_at end as retry_at,
  s.state = 'waiting_for_retry' and s.wake_at <= tasker.clock() as retry_due,
  s.result_bytes, case when sum(s.result_bytes) over (order by s.no) <= $3 then s.result::text end as result,
  case when $2 is not null then s.inputs::text end as inputs,
  a.outcome, a.error::text as error, a.metadata, a.worker, a.duration_ms, a.finished_at as answered_at, f.finished_at as failed_at
from tasker.tasks t
  left join lateral (
    select * from tasker.steps q where q.task_id = t.task_id and ($2::int is null or q.no = $2) offset 0) s on true
  left join lateral (
    select 'success' as outcome, null::json as error, s.metadata, s.worker, s.duration_ms, s.finished_at where s.digest is not null
    union all (
      select q.outcome, q.error, q.metadata, q.worker, q.duration_ms, q.finished_at from tasker.attempts q
      where s.digest is null and q.task_id = s.task_id and q.no = s.no and q.applied and q.outcome in ('success', 'failure')
      order by q.lease desc limit 1)) a on true
  left join lateral (
    select q.finished_at from tasker.attempts q
    where (s.lease > 1 or s.digest is null) and q.task_id = s.task_id and q.no = s.no and q.applied and q.outcome = 'failure'
    order by q.lease desc limit 1) f on true
where t.task_id = $1
order by s.no
