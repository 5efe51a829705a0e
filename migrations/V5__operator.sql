-- Operator actions. Each is one transaction: it locks the affected steps ascending, in a separate statement, then the task, and
-- reads only after that. It lets the task progress and writes a row of the audit log.
-- The first returned row is 'done', 'not_found' or 'conflict'.

-- Returns a row if an action on a step is not allowed. p_allowed: whether the step's own state allows it.
create function tasker.refusal(p_task uuid, p_no int, p_task_state text, p_step_state text, p_allowed boolean)
returns setof tasker.change language sql immutable rows 1 as $$
  select c.* from (select p_task_state not in ('running', 'error')) t(forbids),
    tasker.change_row(case when p_step_state is null then 'not_found' else 'conflict' end, task_id => p_task,
      no => case when not t.forbids then p_no end, state => case when t.forbids then p_task_state else p_step_state end) c
  where p_step_state is null or t.forbids or not p_allowed
$$;

-- Writes the audit log of an applied action on a step, and returns its row 'done'.
create function tasker.audited(
  p_task uuid, p_no int, p_action text, p_actor text, p_reason text, p_was text, p_now text, p_metadata text default null)
returns setof tasker.change language plpgsql rows 1 as $$
begin
  insert into tasker.audit_log (task_id, no, action, actor, reason, from_state, to_state, metadata, created_at)
  values (p_task, p_no, p_action, p_actor, p_reason, p_was, p_now, p_metadata::json, tasker.clock());
  return query select * from tasker.change_row('done', state => p_was);
end $$;

-- Cancels a running task and increases all leases, so that late outcomes are stale. For a cancelled task it has no effect.
create function tasker.cancel_v1(p_task uuid, p_actor text, p_reason text) returns setof tasker.change
language plpgsql set enable_seqscan = off as $$
declare
  was text; n int;
begin
  perform from tasker.steps s where s.task_id = p_task and s.finished_at is null order by s.no for update;
  select t.state into was from tasker.tasks t where t.task_id = p_task for update;
  if was is null then
    return query select * from tasker.change_row('not_found');
    return;
  end if;
  if was <> 'running' then
    return query select * from tasker.change_row(case when was = 'cancelled' then 'done' else 'conflict' end, state => was);
    return;
  end if;
  update tasker.steps s set state = 'cancelled', lease = s.lease + 1, wake_at = null, awaits_callback = false,
    finished_at = tasker.clock()
  where s.task_id = p_task and s.finished_at is null;
  get diagnostics n = row_count;
  update tasker.tasks t set state = 'cancelled', active_steps = 0, failed_steps = t.failed_steps + n, finished_at = tasker.clock()
  where t.task_id = p_task;
  delete from tasker.in_process p where p.task_id = p_task;
  insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
  values (p_task, 'cancel_task', p_actor, p_reason, was, 'cancelled', tasker.clock());
  return query select * from tasker.change_row('done', state => 'cancelled');
  return query select * from tasker.change_row('finished', task_id => p_task, state => 'cancelled');
end $$;

-- Resets the attempts of a step that failed, waits for a retry or was cancelled, and dispatches it if its parents are done.
create function tasker.retry_step_v1(
  p_task uuid, p_no int, p_actor text, p_reason text, p_send_ms bigint, p_max_bytes bigint) returns setof tasker.change
language plpgsql as $$
declare
  was text; was_tolerated boolean; of_task text; open_parents int; above int[];
begin
  select s.parents into above from tasker.steps s where s.task_id = p_task and s.no = p_no;
  -- Locks the parents too: a parent that finishes while the step is not pending would not decrease its count.
  perform from tasker.steps s where s.task_id = p_task and s.no = any (above || p_no) order by s.no for update;
  select t.state into of_task from tasker.tasks t where t.task_id = p_task for update;
  select s.state, s.tolerated into was, was_tolerated from tasker.steps s where s.task_id = p_task and s.no = p_no;
  return query select * from tasker.refusal(
    p_task, p_no, of_task, was, was in ('error', 'waiting_for_retry', 'cancelled') and not was_tolerated);
  if found then
    return;
  end if;
  select count(*) into open_parents from tasker.steps s where s.task_id = p_task and s.no = any (above)
    and not (s.state in ('complete', 'resolved_manually') or s.tolerated);
  update tasker.steps s set state = 'pending', attempt = 0, losses = 0, resends = 0, pending_parents = open_parents,
    wake_at = null, finished_at = null, error = null
  where s.task_id = p_task and s.no = p_no;
  return query select * from tasker.audited(p_task, p_no, 'retry_step', p_actor, p_reason, was, 'pending');
  return query select * from tasker.advance_v1(
    array[p_task], array[case when was = 'waiting_for_retry' then -1 else 0 end],
    array[case when was = 'waiting_for_retry' then 0 else -1 end], array[p_task], array[p_no], array[0], null,
    p_send_ms, 1, p_max_bytes);
  perform tasker.reopened(p_task, p_send_ms, p_actor, p_reason);
end $$;

-- Resolves an unfinished or failed step; its children receive p_result.
create function tasker.resolve_step_v1(
  p_task uuid, p_no int, p_result text, p_actor text, p_reason text, p_metadata text,
  p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql as $$
declare
  was text; was_tolerated boolean; was_held boolean; was_result text; of_task text; below int[];
begin
  select s.children into below from tasker.steps s where s.task_id = p_task and s.no = p_no;
  perform from tasker.steps s where s.task_id = p_task and s.no = any (below || p_no) order by s.no for update;
  select t.state into of_task from tasker.tasks t where t.task_id = p_task for update;
  select s.state, s.tolerated, s.wake_at is not null or s.state = 'enqueued', s.result::text into was, was_tolerated, was_held, was_result
  from tasker.steps s where s.task_id = p_task and s.no = p_no;
  -- A repeated call, after the first response was lost.
  if was = 'resolved_manually' and was_result is not distinct from p_result then
    return query select * from tasker.change_row('done', state => was);
    return;
  end if;
  return query select * from tasker.refusal(
    p_task, p_no, of_task, was, was in ('pending', 'enqueued', 'in_progress', 'waiting_for_retry', 'error'));
  if found then
    return;
  end if;
  update tasker.steps s set state = 'resolved_manually', lease = s.lease + 1, tolerated = false, awaits_callback = false,
    result = p_result::json, result_bytes = coalesce(octet_length(p_result), 0), wake_at = null, finished_at = tasker.clock()
  where s.task_id = p_task and s.no = p_no;
  return query select * from tasker.audited(p_task, p_no, 'resolve_step', p_actor, p_reason, was, 'resolved_manually', p_metadata);
  -- The children already counted a tolerated failure as done.
  return query select * from tasker.advance_v1(
    array[p_task], array[case when was_held then -1 else 0 end],
    array[case when was = 'error' and not was_tolerated then -1 else 0 end],
    (select array_agg(p_task) from unnest(below) c(no) where not was_tolerated),
    (select array_agg(c.no order by c.no) from unnest(below) c(no) where not was_tolerated),
    (select array_agg(1) from unnest(below) c(no) where not was_tolerated), null, p_send_ms, p_bodies, p_max_bytes);
  perform tasker.reopened(p_task, p_send_ms, p_actor, p_reason);
end $$;

-- A task that left the error state no longer waits for an operator. If it runs, its dispatches may be known only to one process.
create function tasker.reopened(p_task uuid, p_send_ms bigint, p_actor text, p_notes text) returns void
language sql as $$
  insert into tasker.in_process (task_id) select t.task_id from tasker.tasks t
  where t.task_id = p_task and t.state = 'running' and p_send_ms is null
  on conflict do nothing;
  update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = p_actor, notes = p_notes,
    resolved_at = tasker.clock(), updated_at = tasker.clock()
  where d.task_id = p_task and d.status = 'pending' and d.reason = 'max_retries_exceeded'
    and (select t.state from tasker.tasks t where t.task_id = p_task) <> 'error'
$$;
