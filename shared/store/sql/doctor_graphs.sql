-- The steps of tasks whose templates have decisions or batchables: which steps these have depends on what was decided.
-- $1 after this task · $2 tasks at most · $3 steps after which no further task is begun (total_steps) · $4 the templates
-- Returns (task_id, template_id, environment, no, name, is_done, parents, children, further_ancestors, created), by task and number; a task
-- without steps has one row, whose number is null.
with page as (
  select t.task_id, t.template_id, t.environment, sum(t.total_steps) over (order by t.task_id) - t.total_steps as before
  from (select * from tasker.tasks q where q.task_id > $1 and q.template_id = any ($4) order by q.task_id limit $2) t)
select p.task_id, p.template_id, p.environment, s.no, s.name, s.state in ('complete', 'resolved_manually') as is_done,
  s.parents, s.children, s.further_ancestors, s.created
from page p left join tasker.steps s on s.task_id = p.task_id
where p.before < $3
order by p.task_id, s.no
