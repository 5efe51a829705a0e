-- Recovery when a process takes the ownership of the database: started steps run again under the same lease, because the workers of
-- the previous process have ended. Dispatches to an external queue are also returned. Steps that await a callback stay. From now on
-- `in_process` names their tasks. Those of retries and held steps follow when they are dispatched.
-- $1 tasks · $2 step numbers · $3 leases: only these dispatches; null: all
-- Returns (task_id, no, lease) of the steps that another session has locked. They are to be returned later: the start does not wait.
with started as materialized (
  select s.task_id, s.no, s.lease, s.awaits_callback from tasker.steps s
  where s.wake_at is not null and s.state in ('enqueued', 'in_progress')
    and ($1::uuid[] is null or exists (
      select from unnest($1::uuid[], $2::int[], $3::int[]) k(task_id, no, lease)
      where k.task_id = s.task_id and k.no = s.no and k.lease = s.lease))
), open as (
  select s.task_id, s.no from started t join tasker.steps s on s.task_id = any (array[t.task_id]) and s.no = t.no and s.lease = t.lease
  where s.state in ('enqueued', 'in_progress') and not s.awaits_callback
  order by s.task_id, s.no for update of s skip locked
), returned as (
  update tasker.steps s set state = 'enqueued', wake_at = null from open o
  where s.task_id = any (array[o.task_id]) and s.no = o.no
), named as (
  -- At the start nothing else moves, and later only what is locked here cannot have finished.
  insert into tasker.in_process (task_id)
  select distinct t.task_id from started t
  where $1::uuid[] is null or exists (select from open o where o.task_id = t.task_id and o.no = t.no)
  order by 1 on conflict do nothing
)
select t.task_id, t.no, t.lease from started t
where not t.awaits_callback and not exists (select from open o where o.task_id = t.task_id and o.no = t.no)
