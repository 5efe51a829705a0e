-- Dispatched steps that no worker has started, counted by the step of their template.
-- Returns (task_id of one of them, template_id, environment, no, steps).
select min(t.task_id::text)::uuid as task_id, t.template_id, t.environment, s.no, count(*) as steps
from tasker.steps s join tasker.tasks t on t.task_id = s.task_id
where s.state = 'enqueued' and s.wake_at is not null
group by t.template_id, t.environment, s.no
order by t.template_id, t.environment, s.no
