-- What speaks against another attempt of a step.
-- $1 task · $2 step number
-- Returns (name, max_attempts, lease, has_result): the last success that came too late to be applied; the last two are null without one.
select s.name, s.max_attempts, l.lease, l.has_result
from tasker.steps s left join lateral (
  select a.lease, a.result is not null as has_result from tasker.attempts a
  where a.task_id = s.task_id and a.no = s.no and a.late order by a.lease desc limit 1) l on true
where s.task_id = $1 and s.no = $2
