-- Those of a task's decisions and batchables that are done, ascending.
-- $1 task · $2 their numbers
select s.no, s.lease, s.created
from unnest($2::int[]) k(no), lateral (select * from tasker.steps q where q.task_id = $1 and q.no = k.no and q.created is not null offset 0) s
order by s.no
