-- What decides whether running tasks are stale.
-- $1 tasks
-- Returns the columns of the type lifecycle_facts, and: `facts`, all of them as a text; the task; the thresholds of its template; the names
-- of the steps that it waits for; the time now, in milliseconds since 1970.
select t.task_id, t.namespace, t.name, t.priority, tasker.epoch_ms(t.created_at) as created_ms, w.lifecycle::text as lifecycle, f.*,
  f::text as facts, tasker.epoch_ms(tasker.clock()) as now_ms, waiting.name as waiting_name, process.name as process_name,
  retry.name as retry_name
from (select distinct u.task_id from unnest($1::uuid[]) u(task_id)) k,
  lateral (select q.* from tasker.tasks q where q.task_id = k.task_id and q.state = 'running' offset 0) t,
  lateral (select q.lifecycle from tasker.templates q where q.template_id = t.template_id and q.lifecycle is not null offset 0) w,
  lateral tasker.lifecycle_facts(t.task_id) f
  left join lateral (select q.name from tasker.steps q where q.task_id = t.task_id and q.no = f.waiting_no offset 0) waiting on true
  left join lateral (select q.name from tasker.steps q where q.task_id = t.task_id and q.no = f.process_no offset 0) process on true
  left join lateral (select q.name from tasker.steps q where q.task_id = t.task_id and q.no = f.retry_no offset 0) retry on true
