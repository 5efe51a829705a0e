-- Steps without their task, attempts without their step, complete steps without exactly one applied outcome under their lease, and rows
-- of in_process without an unfinished task.
-- $1 after this task · $2 up to this one · $3 differences at most
-- Returns the columns of doctor_tasks. Attempts of intentionally deleted steps are no difference: their leases are at most lease_base.
select o.task_id, o.no, o.step, o.what, o.stored, null::text as facts, count(*) over () as total
from (
  select s.task_id, s.no, s.name as step, 'task' as what, 'a step in state ' || s.state as stored from tasker.steps s
  where s.task_id > $1 and s.task_id <= $2 and not exists (select from tasker.tasks t where t.task_id = s.task_id)
  union all
  select a.task_id, a.no, null, 'step', 'an attempt under lease ' || a.lease from tasker.attempts a
    left join tasker.tasks t on t.task_id = a.task_id
  where a.task_id > $1 and a.task_id <= $2 and a.lease > coalesce(t.lease_base, 0)
    and not exists (select from tasker.steps s where s.task_id = a.task_id and s.no = a.no)
  union all
  select s.task_id, s.no, s.name, 'answer', 'another applied outcome under lease ' || s.lease from tasker.attempts a
    join tasker.steps s on s.task_id = a.task_id and s.no = a.no and s.lease = a.lease
  where a.task_id > $1 and a.task_id <= $2 and a.applied and s.digest is not null
  union all
  select s.task_id, s.no, s.name, 'answer', 'complete' from tasker.steps s
  where s.task_id > $1 and s.task_id <= $2 and s.state = 'complete' and case num_nulls(s.digest, s.duration_ms, s.worker)
    when 0 then false when 3 then not exists (
      select from tasker.attempts a where a.task_id = s.task_id and a.no = s.no and a.lease = s.lease and a.applied)
    else true end
  union all
  select p.task_id, null, null, 'unfinished task', 'a row of in_process' from tasker.in_process p where p.task_id > $1 and p.task_id <= $2
    and not exists (select from tasker.tasks t where t.task_id = p.task_id and t.state = 'running')) o
order by o.task_id, o.no limit $3
