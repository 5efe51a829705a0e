-- The next page of a walk over all tasks, which finds those that a defect hides from the other two: those that may be stale.
-- $1 tasks
-- Returns tasks. After the last task the walk begins again. Two walks at once look at the same page.
with page as materialized (
  select t.task_id, t.state from tasker.tasks t
  where t.task_id > coalesce((select w.task_id from tasker.walks w where w.name = 'stale'), '00000000-0000-0000-0000-000000000000')
  order by t.task_id limit $1
), moved as (
  insert into tasker.walks (name, task_id)
  values ('stale', coalesce((select p.task_id from page p order by p.task_id desc limit 1), '00000000-0000-0000-0000-000000000000'))
  on conflict (name) do update set task_id = excluded.task_id
)
select tasker.watched(array(select p.task_id from page p where p.state = 'running')) as tasks
