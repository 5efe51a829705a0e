-- The template of a task.
-- $1 task
select t.template_id, t.environment from tasker.tasks t where t.task_id = $1
