-- The dispatches of a page of tasks whose messages are only in the queue of the owning process.
-- $1 the last task of the previous page · $2 tasks at most · $3 steps of these tasks (total_steps)
-- Returns (task_id, no, lease), ascending; of a task without such a dispatch one row without a number. No row: no tasks are left.
-- Removes names of finished tasks, which a take-over beside a finish may leave. Their tasks are locked, so an operator's action that makes
-- one run again comes before, or names it after.
-- Each lateral join is a look-up by key, whatever the statistics.
with page as materialized (
  select p.task_id from tasker.in_process p where p.task_id > $1 order by p.task_id limit $2
), bounded as materialized (
  select q.task_id from (
    select p.task_id, sum(t.total_steps) over (order by p.task_id) - t.total_steps as before
    from page p left join lateral (select q.total_steps from tasker.tasks q where q.task_id = p.task_id offset 0) t on true) q
  where coalesce(q.before, 0) < $3
), forgotten as (
  delete from tasker.in_process p where p.task_id = any (array(
    select t.task_id from tasker.tasks t where t.task_id = any (array(select b.task_id from bounded b)) and t.state <> 'running'
    for update skip locked))
)
select b.task_id, s.no, s.lease from bounded b left join lateral (
  select q.no, q.lease from tasker.steps q
  where q.task_id = b.task_id and q.state = 'enqueued' and q.wake_at is null offset 0) s on true
order by b.task_id, s.no
