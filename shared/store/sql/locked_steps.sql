-- Of the given steps, those that cannot advance now because a row is locked by another session: their own, a child's, the task's or that of
-- the task in `in_process`.
-- $1 tasks · $2 step numbers
-- Returns (task_id, no). It waits for no row. Its own locks end with the statement.
with own as materialized (
  select s.task_id, s.no, s.children from unnest($1::uuid[], $2::int[]) k(task_id, no)
  join tasker.steps s on s.task_id = any (array[k.task_id]) and s.no = k.no
), free as materialized (
  select s.task_id, s.no from tasker.steps s
  join (select o.task_id, o.no from own o union select o.task_id, c.no from own o, unnest(o.children) c(no)) k
    on s.task_id = any (array[k.task_id]) and s.no = k.no
  for update of s skip locked
), free_task as materialized (
  select t.task_id from tasker.tasks t where t.task_id = any ($1) for update skip locked
), free_name as materialized (
  select p.task_id from tasker.in_process p where p.task_id = any ($1) for update skip locked
)
select o.task_id, o.no from own o
where not exists (select from free_task t where t.task_id = o.task_id)
  or exists (select from tasker.in_process p where p.task_id = o.task_id
    and not exists (select from free_name f where f.task_id = p.task_id))
  or exists (select from unnest(o.no || o.children) n(no)
    where not exists (select from free f where f.task_id = o.task_id and f.no = n.no))
