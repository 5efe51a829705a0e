-- The sweep.

-- Handles at most p_limit steps whose wake_at has passed: dispatches due retries and held steps, re-sends unanswered dispatches
-- under the same lease, and returns started steps past their deadline, about which the caller decides.
-- Skips locked rows: concurrent sweeps handle different steps, and a completion keeps the step that it works on.
-- With a queue outside the process (p_send_ms), it also takes over what a process left: at most p_limit of these dispatches become due in a
-- call. At most ten times as many of the tasks in `in_process` are looked at, chosen at random, because all of them stay there until they
-- are finished: a statement of the process that left them may still commit.
create function tasker.sweep_v1(p_limit bigint, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  h_task uuid[]; h_no int[]; h_lease int[]; r_task uuid[]; r_no int[]; l_task uuid[]; l_no int[]; left_task uuid[];
begin
  if p_send_ms is not null then
    select array_agg(u.task_id) into left_task from (select p.task_id from tasker.in_process p order by random() limit 10 * p_limit) u;
    if left_task is not null then
      with o as (
        select s.task_id, s.no from unnest(left_task) k(task_id) join tasker.steps s on s.task_id = any (array[k.task_id])
        where s.state = 'enqueued' and s.wake_at is null order by s.task_id, s.no limit p_limit for update of s skip locked
      )
      update tasker.steps s set wake_at = tasker.clock() from o where s.task_id = any (array[o.task_id]) and s.no = o.no;
      -- As in list_unsent.
      delete from tasker.in_process p where p.task_id = any (array(
        select t.task_id from tasker.tasks t where t.task_id = any (left_task) and t.state <> 'running' for update skip locked));
    end if;
  end if;

  with due as materialized (
    select s.task_id, s.no, s.lease, s.state from tasker.steps s where s.wake_at <= tasker.clock()
    order by s.wake_at limit p_limit for update skip locked
  ), o as (select * from due order by task_id, no)
  select array_agg(o.task_id) filter (where o.state in ('pending', 'waiting_for_retry')),
    array_agg(o.no) filter (where o.state in ('pending', 'waiting_for_retry')),
    array_agg(o.lease) filter (where o.state in ('pending', 'waiting_for_retry')),
    array_agg(o.task_id) filter (where o.state = 'enqueued'), array_agg(o.no) filter (where o.state = 'enqueued'),
    array_agg(o.task_id) filter (where o.state = 'in_progress'), array_agg(o.no) filter (where o.state = 'in_progress')
  into h_task, h_no, h_lease, r_task, r_no, l_task, l_no from o;

  if p_send_ms is null and (r_task is not null or l_task is not null) then
    insert into tasker.in_process (task_id) select distinct u.task_id from unnest(r_task || l_task) u(task_id) order by 1
    on conflict do nothing;
  end if;
  if r_task is not null then
    update tasker.steps s set resends = s.resends + 1, wake_at = tasker.clock_after(p_send_ms)
    from unnest(r_task, r_no) k(task_id, no) where s.task_id = any (array[k.task_id]) and s.no = k.no;
    -- No worker answers: the third re-send opens a DLQ entry. The step stays enqueued.
    perform tasker.open_entry(s.task_id, s.no, 'worker_unavailable', 'no_answer', 're-sent three times without an answer', s.lease, null)
    from unnest(r_task, r_no) k(task_id, no),
      lateral (select * from tasker.steps q where q.task_id = k.task_id and q.no = k.no offset 0) s
    where s.resends = 3;
    return query select * from tasker.load_run_steps_v1(r_task, r_no, p_max_bytes);
  end if;

  if l_task is not null then
    return query select c.* from unnest(l_task, l_no) k(task_id, no),
      lateral (select * from tasker.steps q where q.task_id = k.task_id and q.no = k.no offset 0) s,
      lateral (select * from tasker.tasks q where q.task_id = k.task_id offset 0) t,
      tasker.change_row(case when s.awaits_callback then 'expired' else 'lost' end, task_id => s.task_id, no => s.no,
        lease => s.lease, attempt => s.attempt, losses => s.losses, template_id => t.template_id,
        environment => t.environment) c;
  end if;

  if h_task is not null then
    return query select * from tasker.dispatch_v1(h_task, h_no, h_lease, p_send_ms, p_bodies, p_max_bytes);
  end if;
end $$;
