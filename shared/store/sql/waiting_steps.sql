-- Dispatched steps that no worker has started, counted by the step of their template.
-- Returns (task_id of one of them, template_id, environment, no, steps).
select min(t.task_id::text)::uuid as task_id, t.template_id, t.environment, s.no, count(*) as steps
from (
    select q.task_id, q.no from tasker.steps q where q.state = 'enqueued' and q.wake_at is not null
    union all
    select p.task_id, q.no from tasker.in_process p, lateral (
      select w.no from tasker.steps w where w.task_id = p.task_id and w.state = 'enqueued' and w.wake_at is null offset 0) q) s
  join tasker.tasks t on t.task_id = s.task_id
group by t.template_id, t.environment, s.no
order by t.template_id, t.environment, s.no
