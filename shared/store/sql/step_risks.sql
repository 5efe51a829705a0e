-- What speaks against another attempt of steps.
-- $1 task · $2 step numbers · $3 the step that the action is about, or null · $4 limit
-- Returns (no, once, is_open, has_inputs, has_checkpoint, lease, has_result), ascending, of that step and those that allow one attempt only
-- (once) or have a late success: whether its task can be acted on, whether it has inputs and a checkpoint, and its last success that came
-- too late to be applied; the last two are null without one. Of a deleted step only its attempts are left.
select u.no, coalesce(s.max_attempts = 1, false) as once, t.state in ('running', 'error') as is_open, s.inputs is not null as has_inputs,
  s.checkpoint is not null as has_checkpoint, l.lease, l.has_result
from (select * from tasker.tasks q where q.task_id = $1 offset 0) t, unnest($2::int[]) u(no)
  left join lateral (select * from tasker.steps q where q.task_id = $1 and q.no = u.no offset 0) s on true
  left join lateral (select a.lease, a.result is not null as has_result from tasker.attempts a
    where a.task_id = $1 and a.no = u.no and a.late order by a.lease desc limit 1) l on true
where s.max_attempts = 1 or l.lease is not null or u.no = $3
order by u.no limit $4
