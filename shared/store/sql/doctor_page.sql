-- The next page of tasks to check, limited by tasks and by steps (total_steps).
-- $1 the last task of the previous page · $2 tasks at most · $3 steps
-- Returns the last task of the page (null: no tasks are left) and its numbers of tasks and steps.
with page as (
  select t.task_id, t.total_steps from tasker.tasks t where t.task_id > $1 order by t.task_id limit $2
), bounded as (
  select p.task_id from (select q.*, sum(q.total_steps) over (order by q.task_id) - q.total_steps as before from page q) p
  where p.before < $3
), last as (
  select (select b.task_id from bounded b order by b.task_id desc limit 1) as task_id, (select count(*) from bounded b) as tasks)
select l.task_id, l.tasks,
  (select count(*) from tasker.steps s where s.task_id > $1 and s.task_id <= l.task_id) as steps from last l
