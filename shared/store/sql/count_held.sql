-- The steps of a namespace or a template that wait only for the end of its pause. Changes nothing.
-- $1 … $5 as in release_held
-- Returns as release_held; steps is the number of those that the end of the pause would make due.
with looked as materialized (
  select s.task_id, s.no from tasker.steps s where s.held_at is not null and (s.task_id, s.no) > ($3, $4)
  order by s.task_id, s.no limit $5
), held as (
  select from looked l,
    lateral (select q.namespace, q.name, q.paused_at from tasker.tasks q where q.task_id = l.task_id offset 0) t
  where t.namespace = $1 and ($2 = '' or t.name = $2) and t.paused_at is null and not exists (
    select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name) and p.template <> $2)
)
select l.task_id, l.no, (select count(*) from held) as steps
from (select 1) one left join (select task_id, no from looked order by task_id desc, no desc limit 1) l on true
