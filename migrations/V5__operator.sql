-- What operators do. Each is one transaction that locks the steps it touches ascending, in a statement of its own, then the
-- task, and reads only afterwards; it moves the task on and leaves a row in the audit log.
-- Answers begin with one row: kind 'done', 'not_found', or 'conflict' with the state that stood in the way.

create function tasker.verdict_of_operator(p_kind text, p_task uuid, p_no int, p_state text) returns tasker.change
language sql immutable as $$
  select (p_kind, null, p_task, p_no, null, null, null, null, null, null, p_state, null, null, null, null, null, null, null, null, null)::tasker.change
$$;

-- Ends a running task: every lease rises, so that no late answer counts. A cancelled task stays as it is.
create function tasker.cancel_v1(p_task uuid, p_actor text, p_reason text) returns setof tasker.change
language plpgsql as $$
declare
  was text; n int;
begin
  perform from tasker.steps s where s.task_id = p_task and s.finished_at is null order by s.no for update;
  select t.state into was from tasker.tasks t where t.task_id = p_task for update;
  if was is null then
    return next tasker.verdict_of_operator('not_found', p_task, null, null);
    return;
  end if;
  if was <> 'running' then
    return next tasker.verdict_of_operator(case when was = 'cancelled' then 'done' else 'conflict' end, p_task, null, was);
    return;
  end if;
  update tasker.steps s set state = 'cancelled', lease = s.lease + 1, wake_at = null, awaits_callback = false,
    finished_at = tasker.clock()
  where s.task_id = p_task and s.finished_at is null;
  get diagnostics n = row_count;
  update tasker.tasks t set state = 'cancelled', active_steps = 0, failed_steps = t.failed_steps + n, finished_at = tasker.clock()
  where t.task_id = p_task;
  insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
  values (p_task, 'cancel_task', p_actor, p_reason, was, 'cancelled', tasker.clock());
  return next tasker.verdict_of_operator('done', p_task, null, 'cancelled');
  return next row('finished', null, p_task, null, null, null, null, null, null, null, 'cancelled', null, null, null, null, null, null, null, null, null)::tasker.change;
end $$;

-- Gives a step that failed, waits for a retry or was cancelled a new budget, and hands it over if its parents are done.
create function tasker.retry_step_v1(
  p_task uuid, p_no int, p_actor text, p_reason text, p_send_ms bigint, p_max_bytes bigint) returns setof tasker.change
language plpgsql as $$
declare
  was text; was_tolerated boolean; of_task text; open_parents int; above int[];
begin
  select s.parents into above from tasker.steps s where s.task_id = p_task and s.no = p_no;
  -- Parents too: one that finishes while the step is not pending would not count it down.
  perform from tasker.steps s where s.task_id = p_task and s.no = any (above || p_no) order by s.no for update;
  select t.state into of_task from tasker.tasks t where t.task_id = p_task for update;
  select s.state, s.tolerated into was, was_tolerated from tasker.steps s where s.task_id = p_task and s.no = p_no;
  if was is null then
    return next tasker.verdict_of_operator('not_found', p_task, p_no, null);
    return;
  end if;
  if of_task not in ('running', 'error') then
    return next tasker.verdict_of_operator('conflict', p_task, null, of_task);
    return;
  end if;
  if was not in ('error', 'waiting_for_retry', 'cancelled') or was_tolerated then
    return next tasker.verdict_of_operator('conflict', p_task, p_no, was);
    return;
  end if;
  select count(*) into open_parents from tasker.steps s where s.task_id = p_task and s.no = any (above)
    and not (s.state in ('complete', 'resolved_manually') or s.tolerated);
  update tasker.steps s set state = 'pending', attempt = 0, losses = 0, resends = 0, pending_parents = open_parents,
    wake_at = null, finished_at = null, error = null
  where s.task_id = p_task and s.no = p_no;
  insert into tasker.audit_log (task_id, no, action, actor, reason, from_state, to_state, created_at)
  values (p_task, p_no, 'retry_step', p_actor, p_reason, was, 'pending', tasker.clock());
  return next tasker.verdict_of_operator('done', p_task, p_no, was);
  return query select * from tasker.advance_v1(
    array[p_task], array[case when was = 'waiting_for_retry' then -1 else 0 end],
    array[case when was = 'waiting_for_retry' then 0 else -1 end], array[p_task], array[p_no], array[0], p_send_ms, 1, p_max_bytes);
  perform tasker.close_dlq_entries(p_task, p_actor, p_reason);
end $$;

-- Settles an unfinished or failed step: its children see p_result as its result.
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
  select s.state, s.tolerated, s.wake_at is not null, s.result::text into was, was_tolerated, was_held, was_result
  from tasker.steps s where s.task_id = p_task and s.no = p_no;
  if was is null then
    return next tasker.verdict_of_operator('not_found', p_task, p_no, null);
    return;
  end if;
  -- The same again, after an answer that was lost.
  if was = 'resolved_manually' and was_result is not distinct from p_result then
    return next tasker.verdict_of_operator('done', p_task, p_no, was);
    return;
  end if;
  if of_task not in ('running', 'error') then
    return next tasker.verdict_of_operator('conflict', p_task, null, of_task);
    return;
  end if;
  if was not in ('pending', 'enqueued', 'in_progress', 'waiting_for_retry', 'error') then
    return next tasker.verdict_of_operator('conflict', p_task, p_no, was);
    return;
  end if;
  update tasker.steps s set state = 'resolved_manually', lease = s.lease + 1, tolerated = false, awaits_callback = false,
    result = p_result::json, result_bytes = coalesce(octet_length(p_result), 0), wake_at = null, finished_at = tasker.clock()
  where s.task_id = p_task and s.no = p_no;
  insert into tasker.audit_log (task_id, no, action, actor, reason, from_state, to_state, metadata, created_at)
  values (p_task, p_no, 'resolve_step', p_actor, p_reason, was, 'resolved_manually', p_metadata::json, tasker.clock());
  return next tasker.verdict_of_operator('done', p_task, p_no, was);
  -- A tolerated failure was counted as done when it happened.
  return query select * from tasker.advance_v1(
    array[p_task], array[case when was_held then -1 else 0 end],
    array[case when was = 'error' and not was_tolerated then -1 else 0 end],
    (select array_agg(p_task) from unnest(below) c(no) where not was_tolerated),
    (select array_agg(c.no order by c.no) from unnest(below) c(no) where not was_tolerated),
    (select array_agg(1) from unnest(below) c(no) where not was_tolerated), p_send_ms, p_bodies, p_max_bytes);
  perform tasker.close_dlq_entries(p_task, p_actor, p_reason);
end $$;

-- A task that left the error state no longer waits for an operator.
create function tasker.close_dlq_entries(p_task uuid, p_actor text, p_notes text) returns void
language sql as $$
  update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = p_actor, notes = p_notes,
    resolved_at = tasker.clock(), updated_at = tasker.clock()
  where d.task_id = p_task and d.status = 'pending' and d.reason = 'max_retries_exceeded'
    and (select t.state from tasker.tasks t where t.task_id = p_task) <> 'error'
$$;
