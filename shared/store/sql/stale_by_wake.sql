-- A page of the steps that the sweep will look at, by that time: their tasks that may be stale.
-- $1 wake_at, $2 task and $3 step number of the last step of the previous page, or '-infinity', the nil UUID and 0 · $4 steps
-- $5 also tasks that are younger than every threshold
-- Returns tasks, and (wake_at, task_id, no) of the last step of the page; without a task: no step was left.
with page as materialized (
  select s.wake_at, s.task_id, s.no from tasker.steps s
  where s.wake_at >= $1::text::timestamptz and (s.wake_at, s.task_id, s.no) > ($1::text::timestamptz, $2, $3)
  order by s.wake_at, s.task_id, s.no limit $4
)
select tasker.watched(array(select p.task_id from page p), $5) as tasks, l.wake_at::text as wake_at, l.task_id, l.no
from (select 1) one left join (select * from page p order by p.wake_at desc, p.task_id desc, p.no desc limit 1) l on true
