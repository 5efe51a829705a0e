-- The state of a task.
-- $1 task
select state from tasker.tasks where task_id = $1
