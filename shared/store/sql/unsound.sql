-- What is wrong in the rows of running tasks.
-- $1 tasks
-- Returns (task_id, sentences) of the tasks that are to be repaired.
select k.task_id, w.sentences from unnest($1::uuid[]) k(task_id),
  lateral (select t.task_id from tasker.tasks t where t.task_id = k.task_id and t.state = 'running' offset 0) t,
  lateral (select tasker.unsound(t.task_id) as sentences offset 0) w
where w.sentences <> '{}'
