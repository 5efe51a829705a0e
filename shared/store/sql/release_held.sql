-- Makes due what a pause of a namespace or a template had held and nothing else pauses. The sweep dispatches it.
-- $1 namespace · $2 template, or '' for the whole namespace · $3 task and $4 step number of the last held step of the previous page, or the
-- nil UUID and 0 · $5 held steps of any namespace to look at
-- Returns (task_id, no), the last step that was looked at, and steps, the number of those made due; without a task: none was left.
-- Waits for locked steps: a sweep that read the pause before it ended may hold them again, for up to an hour.
with looked as materialized (
  select s.task_id, s.no from tasker.steps s where s.held_at is not null and (s.task_id, s.no) > ($3, $4)
  order by s.task_id, s.no limit $5
), free as materialized (
  select l.task_id, l.no from looked l,
    lateral (select q.namespace, q.name, q.paused_at from tasker.tasks q where q.task_id = l.task_id offset 0) t
  where t.namespace = $1 and ($2 = '' or t.name = $2) and t.paused_at is null and not exists (
    select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name))
), held as (
  select s.task_id, s.no from free f join tasker.steps s on s.task_id = any (array[f.task_id]) and s.no = f.no
  where s.held_at is not null order by s.task_id, s.no for update of s
), due as (
  update tasker.steps s set wake_at = tasker.clock() from held h where s.task_id = any (array[h.task_id]) and s.no = h.no
  returning 1
)
select l.task_id, l.no, (select count(*) from due) as steps
from (select 1) one left join (select task_id, no from looked order by task_id desc, no desc limit 1) l on true
