-- A page of the tasks whose dispatches may be known only to one process: those that may be stale.
-- $1 the last task of the previous page · $2 tasks · $3 also tasks that are younger than every threshold
-- Returns tasks, and the last task of the page; null: none was left.
with page as materialized (
  select p.task_id from tasker.in_process p where p.task_id > $1 order by p.task_id limit $2
)
select tasker.watched(array(select p.task_id from page p), $3) as tasks, (select p.task_id from page p order by p.task_id desc limit 1) as task_id
