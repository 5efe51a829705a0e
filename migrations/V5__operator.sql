-- Operator actions. `operate_v1` carries out one on a task or step, in one transaction: it locks everything that the action may read or
-- change, remembers the steps, acts, lets the task progress, writes a row of the audit log, and says what changed. A dry run is the same,
-- rolled back.

create type tasker.mark as (no int, name text, state text, lease int);

-- A step as the audit log keeps it.
create function tasker.audited_step(p_task uuid, p_no int) returns json language sql stable as $$
  select json_build_object('state', s.state, 'lease', s.lease, 'attempt', s.attempt, 'tolerated', s.tolerated, 'inputs', s.inputs,
    'checkpoint', s.checkpoint, 'result', s.result, 'error', s.error)
  from tasker.steps s where s.task_id = p_task and s.no = p_no
$$;
-- So many of the steps that an action changes are in its row of the audit log.
create function tasker.audited_steps() returns int language sql immutable as 'select 1000';

-- Returns a row if an action on a step is not allowed. p_allowed: whether the step's own state allows it.
create function tasker.refusal(p_task uuid, p_no int, p_task_state text, p_step_state text, p_allowed boolean)
returns setof tasker.change language sql immutable rows 1 as $$
  select c.* from (select p_task_state not in ('running', 'error')) t(forbids),
    tasker.change_row(case when p_step_state is null then 'not_found' else 'conflict' end, task_id => p_task,
      no => case when not t.forbids then p_no end, state => case when t.forbids then p_task_state else p_step_state end) c
  where p_step_state is null or t.forbids or not p_allowed
$$;

-- Writes the audit log of an applied action, and returns its row 'done'.
create function tasker.audited(
  p_task uuid, p_no int, p_action text, p_actor text, p_reason text, p_was text, p_now text, p_metadata text default null)
returns setof tasker.change language plpgsql rows 1 as $$
begin
  insert into tasker.audit_log (task_id, no, action, actor, reason, from_state, to_state, metadata, created_at)
  values (p_task, p_no, p_action, p_actor, p_reason, p_was, p_now, p_metadata::json, tasker.clock());
  return query select * from tasker.change_row('done', state => p_was);
end $$;

-- After an action that may have settled what entries are about: a task that left the error state no longer waits for an operator, nor does
-- a step (p_no) that was set back or resolved. p_was: the task's state before. If the task runs, its dispatches may be known only to one process.
create function tasker.reopened(p_task uuid, p_no int, p_was text, p_send_ms bigint, p_actor text, p_notes text) returns void
language sql as $$
  insert into tasker.in_process (task_id) select t.task_id from tasker.tasks t
  where t.task_id = p_task and t.state = 'running' and p_send_ms is null
  on conflict do nothing;
  update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = p_actor, notes = p_notes,
    resolved_at = tasker.clock(), updated_at = tasker.clock()
  -- A CASE, so that no plan walks the index of all pending entries.
  where d.task_id = p_task and case when d.status = 'pending' then d.no = p_no and d.reason <> 'max_retries_exceeded'
    or p_was = 'error' and d.reason in ('max_retries_exceeded', 'staleness_timeout')
      and (select t.state from tasker.tasks t where t.task_id = p_task) <> 'error' end
$$;

-- Whether a step can progress without an operator, so that its task counts it as active. A step that a pause holds does.
create function tasker.is_active(state text, wake_at timestamptz) returns boolean language sql immutable as $$
  select state in ('enqueued', 'in_progress', 'waiting_for_retry') or state = 'pending' and wake_at is not null
$$;

-- The number of a step's parents that are not done. In a FROM clause the planner inlines it, so that many steps need one statement.
create function tasker.open_parents(p_task uuid, p_parents int[]) returns setof int language sql stable rows 1 as $$
  select count(*)::int from unnest(p_parents) k(no), lateral (select * from tasker.steps q where q.task_id = p_task and q.no = k.no offset 0) s
  where not (s.state in ('complete', 'resolved_manually') or s.tolerated)
$$;

-- Moves the answers of successes to `attempts`, before something sets these steps back or deletes them. Otherwise the same outcome again
-- would no longer be a duplicate.
create function tasker.keep_answers(p_task uuid, p_no int[]) returns void language sql as $$
  insert into tasker.attempts (task_id, no, lease, attempt, outcome, applied, digest, metadata, worker, duration_ms, dispatched_at, finished_at)
  select s.task_id, s.no, s.lease, s.attempt, 'success', true, s.digest, s.metadata, s.worker, s.duration_ms, s.dispatched_at, s.finished_at
  from unnest(p_no) k(no), lateral (select * from tasker.steps q where q.task_id = p_task and q.no = k.no offset 0) s
  where s.digest is not null
$$;

-- Gives cancelled steps a new budget: pending, counted anew. A worker of a batch with fewer places than workers waits for one again.
-- Returns their number.
create function tasker.revive(p_task uuid, p_no int[]) returns int language sql as $$
  with k as (
    select s.task_id, s.no, p.open, exists (
      select from tasker.batches b where b.task_id = p_task and b.no = s.no & ~16383 and s.no & 16383 > 0) as waits
    from unnest(p_no) u(no), lateral (select * from tasker.steps q where q.task_id = p_task and q.no = u.no and q.state = 'cancelled' offset 0) s,
      tasker.open_parents(p_task, s.parents) p(open) offset 0
  ), revived as (
    update tasker.steps s set state = 'pending', attempt = 0, losses = 0, resends = 0, error = null, finished_at = null, wake_at = null,
      held_at = null, pending_parents = k.open + k.waits::int
    from k where s.task_id = any (array[k.task_id]) and s.no = k.no
    returning 1)
  select count(*)::int from revived
$$;

-- Opens batches again from their beginning, and gives their free places. Returns the workers that got one.
create function tasker.open_batches(p_task uuid, p_patterns int[]) returns int[] language plpgsql as $$
begin
  update tasker.batches b set open = true, next = b.no, running = (
    select count(*) from tasker.steps s where s.task_id = p_task and s.no > b.no and s.no <= b.no + b.workers
      and tasker.is_active(s.state, s.wake_at))
  where b.task_id = p_task and b.no = any (p_patterns);
  return array(select p.no from tasker.pass_places(array_fill(p_task, array[cardinality(p_patterns)]), p_patterns, 0) p order by 1);
end $$;

-- Ends what a failed worker did to its batch, before an operator retries or settles it: the cancelled workers are pending again, and the
-- batch passes places on. Returns the number of revived workers, and the steps to dispatch with what counts them down.
create function tasker.reopen_batch(p_task uuid, p_no int, p_was text, out revived int, out no int[], out n int[]) language plpgsql as $$
declare
  pattern int := p_no & ~16383; cancelled int[]; has_places boolean;
begin
  revived := 0; no := '{}'; n := '{}';
  if p_no & 16383 = 0 or p_was <> 'error' then
    return;
  end if;
  cancelled := array(select s.no from tasker.steps s
    where s.task_id = p_task and s.no > pattern and s.no < pattern + 16384 and s.no <> p_no and s.state = 'cancelled' order by s.no);
  has_places := exists (select from tasker.batches b where b.task_id = p_task and b.no = pattern and not b.open);
  if cancelled = '{}' and not has_places then
    return;
  end if;
  revived := tasker.revive(p_task, cancelled);
  no := case when has_places then tasker.open_batches(p_task, array[pattern]) else cancelled end;
  n := array_fill(has_places::int, array[cardinality(no)]);
end $$;

-- Ends a running task in this state: its unfinished steps are cancelled, and all their leases increased, so that late outcomes are stale.
create function tasker.end_task(p_task uuid, p_state text) returns void language plpgsql as $$
declare
  ended int;
begin
  update tasker.steps s set state = 'cancelled', lease = s.lease + 1, wake_at = null, held_at = null, awaits_callback = false,
    finished_at = tasker.clock()
  where s.task_id = p_task and s.finished_at is null;
  get diagnostics ended = row_count;
  update tasker.batches b set running = 0 where b.task_id = p_task;
  update tasker.tasks t set state = p_state, active_steps = 0, failed_steps = t.failed_steps + ended, finished_at = tasker.clock()
  where t.task_id = p_task;
  delete from tasker.in_process p where p.task_id = p_task;
end $$;

-- Cancels a running task. For a cancelled task it has no effect.
create function tasker.cancel_task(p_task uuid, p_was text, p_metadata text, p_actor text, p_reason text)
returns setof tasker.change language plpgsql as $$
begin
  if p_was <> 'running' then
    return query select * from tasker.change_row(case when p_was = 'cancelled' then 'done' else 'conflict' end, state => p_was);
    return;
  end if;
  perform tasker.end_task(p_task, 'cancelled');
  update tasker.dlq_entries d set status = 'cancelled', resolved_by = p_actor, notes = p_reason, resolved_at = tasker.clock(),
    updated_at = tasker.clock()
  -- As in `reopened`.
  where d.task_id = p_task and case when d.status = 'pending' then true end;
  return query select * from tasker.audited(p_task, null, 'cancel_task', p_actor, p_reason, p_was, 'cancelled', p_metadata);
  return query select * from tasker.change_row('finished', task_id => p_task, state => 'cancelled');
end $$;

-- Lets a task that was cancelled, or failed and has cancelled steps, go on: its cancelled steps are pending with a new budget.
create function tasker.reopen_task(
  p_task uuid, p_was text, p_metadata text, p_actor text, p_reason text, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  cancelled int[]; revived int; with_places int[]; k_no int[]; k_n int[];
begin
  cancelled := array(select s.no from tasker.steps s where s.task_id = p_task and s.state = 'cancelled' order by s.no);
  if p_was not in ('error', 'cancelled') or cancelled = '{}' then
    return query select * from tasker.change_row('conflict', task_id => p_task, state => p_was);
    return;
  end if;
  revived := tasker.revive(p_task, cancelled);
  -- advance_v1 moves a task on from here. It runs: among the cancelled steps is one whose parents are done.
  update tasker.tasks t set state = 'error' where t.task_id = p_task;
  return query select * from tasker.audited(p_task, null, 'reopen_task', p_actor, p_reason, p_was, 'running', p_metadata);
  with_places := tasker.open_batches(p_task, array(select b.no from tasker.batches b where b.task_id = p_task order by b.no));
  select array_agg(k.no), array_agg(k.n) into k_no, k_n from (
    select u.no, 1 as n from unnest(with_places) u(no)
    union all
    select s.no, 0 from unnest(cancelled) u(no), lateral (
      select * from tasker.steps q where q.task_id = p_task and q.no = u.no and q.pending_parents = 0 offset 0) s
    order by no) k;
  return query select * from tasker.advance_v1(array[p_task], array[0], array[-revived],
    case when k_no is not null then array_fill(p_task, array[cardinality(k_no)]) end, k_no, k_n, null, p_send_ms, p_bodies, p_max_bytes);
  perform tasker.reopened(p_task, null, p_was, p_send_ms, p_actor, p_reason);
end $$;

-- Ends a failed task without changing its steps.
create function tasker.resolve_task(p_task uuid, p_was text, p_metadata text, p_actor text, p_reason text, p_send_ms bigint)
returns setof tasker.change language plpgsql as $$
begin
  if p_was <> 'error' then
    return query select * from tasker.change_row(case when p_was = 'resolved_manually' then 'done' else 'conflict' end, task_id => p_task,
      state => p_was);
    return;
  end if;
  update tasker.tasks t set state = 'resolved_manually', finished_at = tasker.clock() where t.task_id = p_task;
  return query select * from tasker.audited(p_task, null, 'resolve_task', p_actor, p_reason, p_was, 'resolved_manually', p_metadata);
  perform tasker.reopened(p_task, null, p_was, p_send_ms, p_actor, p_reason);
end $$;

-- Holds the dispatches of a running task, or dispatches what was held.
create function tasker.pause_task(
  p_task uuid, p_pause boolean, p_was text, p_metadata text, p_actor text, p_reason text, p_send_ms bigint, p_bodies int,
  p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  is_paused boolean; k_no int[]; k_lease int[];
begin
  select t.paused_at is not null into is_paused from tasker.tasks t where t.task_id = p_task;
  if p_was <> 'running' then
    return query select * from tasker.change_row('conflict', task_id => p_task, state => p_was);
    return;
  elsif is_paused = p_pause then
    return query select * from tasker.change_row('done', state => p_was);
    return;
  end if;
  update tasker.tasks t set paused_at = case when p_pause then tasker.clock() end where t.task_id = p_task;
  return query select * from tasker.audited(p_task, null, case when p_pause then 'pause_task' else 'resume_task' end, p_actor, p_reason,
    p_was, p_was, p_metadata);
  if not p_pause then
    update tasker.steps s set wake_at = tasker.clock() where s.task_id = p_task and s.held_at is not null;
    select array_agg(s.no order by s.no), array_agg(s.lease order by s.no) into k_no, k_lease
    from tasker.steps s where s.task_id = p_task and s.held_at is not null;
    if k_no is not null then
      return query select * from tasker.dispatch_v1(array_fill(p_task, array[cardinality(k_no)]), k_no, k_lease, p_send_ms, p_bodies,
        p_max_bytes);
    end if;
  end if;
end $$;

-- Resets the attempts of a step that failed, waits for a retry or was cancelled, and dispatches it if its parents are done. A tolerated
-- failure only before a step after it was dispatched. p_inputs: new inputs of the step, or null.
create function tasker.retry_step(
  p_task uuid, p_no int, p_task_was text, p_inputs text, p_metadata text, p_actor text, p_reason text, p_send_ms bigint, p_bodies int,
  p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  own tasker.steps; unheld int := 0; batch record; k_no int[]; k_n int[];
begin
  select s.* into own from tasker.steps s where s.task_id = p_task and s.no = p_no;
  return query select * from tasker.refusal(p_task, p_no, p_task_was, own.state, own.state in ('error', 'waiting_for_retry', 'cancelled')
    and not (own.tolerated and exists (select from unnest(own.children) k(no), lateral (
      select from tasker.steps q where q.task_id = p_task and q.no = k.no and q.state <> 'pending' offset 0) c)));
  if found then
    return;
  end if;
  update tasker.steps s set state = 'pending', attempt = 0, losses = 0, resends = 0, tolerated = false,
    pending_parents = (select p from tasker.open_parents(p_task, own.parents) p), wake_at = null, held_at = null, finished_at = null, error = null,
    inputs = coalesce(p_inputs::json, s.inputs), checkpoint = case when p_inputs is null then s.checkpoint end
  where s.task_id = p_task and s.no = p_no;
  if own.tolerated then
    -- Its children counted it as done. One that a pause holds is no longer ready.
    select count(*) into unheld from unnest(own.children) k(no), lateral (
      select from tasker.steps q where q.task_id = p_task and q.no = k.no and q.wake_at is not null offset 0) c;
    update tasker.steps s set pending_parents = s.pending_parents + 1, wake_at = null, held_at = null
    from (select p_task as task_id, u.no from unnest(own.children) u(no) offset 0) k
    where s.task_id = any (array[k.task_id]) and s.no = k.no;
  end if;
  select * into batch from tasker.reopen_batch(p_task, p_no, case when own.tolerated then '' else own.state end);
  if own.state <> 'waiting_for_retry' then
    update tasker.batches b set running = b.running + 1 where b.task_id = p_task and b.no = p_no & ~16383 and p_no & 16383 > 0;
  end if;
  return query select * from tasker.audited(p_task, p_no, 'retry_step', p_actor, p_reason, own.state, 'pending',
    case when p_inputs is not null or p_metadata is not null then
      json_build_object('inputs', p_inputs::json, 'metadata', p_metadata::json)::text end);
  select array_agg(u.no order by u.no), array_agg(u.n order by u.no) into k_no, k_n
  from (select * from unnest(batch.no, batch.n) union all select p_no, 0) u(no, n);
  return query select * from tasker.advance_v1(
    array[p_task], array[-(own.state = 'waiting_for_retry')::int - unheld],
    array[-(own.state in ('error', 'cancelled') and not own.tolerated)::int - batch.revived],
    array_fill(p_task, array[cardinality(k_no)]), k_no, k_n, null, p_send_ms, p_bodies, p_max_bytes);
  perform tasker.reopened(p_task, p_no, p_task_was, p_send_ms, p_actor, p_reason);
end $$;

-- Sets back a step and everything after it, and dispatches the step. p_plan:
--   others, seen: the deciders of the template; [no, lease] of those that were done when this was planned
--   reset: the step and the steps after it that stay, ascending; deleted: those that a step among them had made
--   parents: [{no, parents}] of the steps that stay and whose parents change
create function tasker.redo_step(
  p_task uuid, p_no int, p_task_was text, p_plan json, p_inputs text, p_metadata text, p_actor text, p_reason text, p_send_ms bigint,
  p_bodies int, p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  own tasker.steps; reset int[]; gone int[]; active int; failed int; batch record; k_no int[]; k_n int[];
begin
  select s.* into own from tasker.steps s where s.task_id = p_task and s.no = p_no;
  return query select * from tasker.refusal(p_task, p_no, case p_task_was when 'complete' then 'running' else p_task_was end, own.state,
    own.state in ('complete', 'resolved_manually', 'error', 'waiting_for_retry', 'cancelled'));
  if found then
    return;
  end if;
  return query select * from tasker.refuse_growth(p_task, p_plan);
  if found then
    return;
  end if;
  reset := array(select u.no::int from json_array_elements_text(p_plan->'reset') u(no) order by 1);
  gone := array(select u.no::int from json_array_elements_text(p_plan->'deleted') u(no) order by 1);
  perform tasker.keep_answers(p_task, reset || gone);
  select count(*) filter (where tasker.is_active(s.state, s.wake_at)),
    count(*) filter (where s.state in ('error', 'cancelled') and not s.tolerated)
  into active, failed
  from unnest(reset || gone) k(no), lateral (select * from tasker.steps q where q.task_id = p_task and q.no = k.no offset 0) s;
  update tasker.tasks t set lease_base = greatest(t.lease_base, (
      select max(s.lease) from unnest(gone) k(no), lateral (select * from tasker.steps q where q.task_id = p_task and q.no = k.no offset 0) s))
  where t.task_id = p_task and gone <> '{}';
  -- The task comes with the numbers, here and elsewhere: otherwise a plan may look through all numbers for each step of the task.
  delete from tasker.steps s using (select p_task as task_id, u.no from unnest(gone) u(no) offset 0) k
  where s.task_id = any (array[k.task_id]) and s.no = k.no;
  delete from tasker.batches b where b.task_id = p_task and exists (select from unnest(gone) k(no) where k.no & ~16383 = b.no and k.no & 16383 > 0);
  select * into batch from tasker.reopen_batch(p_task, p_no, case when own.tolerated then '' else own.state end);
  if not tasker.is_active(own.state, own.wake_at) then
    update tasker.batches b set running = b.running + 1 where b.task_id = p_task and b.no = p_no & ~16383 and p_no & 16383 > 0;
  end if;
  update tasker.steps s set state = 'pending', attempt = 0, losses = 0, resends = 0, tolerated = false, awaits_callback = false,
    lease = s.lease + (s.state in ('enqueued', 'in_progress'))::int, wake_at = null, held_at = null, started_at = null,
    finished_at = null, result = null, result_bytes = 0, error = null,
    checkpoint = case when s.no = p_no and p_inputs is null then s.checkpoint end, created = null, digest = null, duration_ms = null,
    worker = null, metadata = null,
    inputs = case when s.no = p_no then coalesce(p_inputs::json, s.inputs) else s.inputs end,
    parents = coalesce(k.parents, s.parents)
  from (select p_task as task_id, u.no, e.parents
    from unnest(reset) u(no) left join json_to_recordset(p_plan->'parents') e(no int, parents int[]) using (no) offset 0) k
  where s.task_id = any (array[k.task_id]) and s.no = k.no;
  -- In a later statement, which sees what was set back.
  update tasker.steps s set pending_parents = k.open
  from (select p_task as task_id, u.no, p.open from unnest(reset) u(no),
      lateral (select q.parents from tasker.steps q where q.task_id = p_task and q.no = u.no offset 0) q,
      tasker.open_parents(p_task, q.parents) p(open) offset 0) k
  where s.task_id = any (array[k.task_id]) and s.no = k.no;
  update tasker.tasks t set total_steps = t.total_steps - cardinality(gone),
    state = case when t.state = 'complete' then 'error' else t.state end
  where t.task_id = p_task;
  return query select * from tasker.audited(p_task, p_no, 'redo_step', p_actor, p_reason, own.state, 'pending',
    json_build_object('reset', cardinality(reset), 'deleted', cardinality(gone), 'inputs', p_inputs::json,
      'metadata', p_metadata::json)::text);
  select array_agg(u.no order by u.no), array_agg(u.n order by u.no) into k_no, k_n
  from (select * from unnest(batch.no, batch.n) union all select p_no, 0) u(no, n);
  return query select * from tasker.advance_v1(
    array[p_task], array[-active], array[-failed - batch.revived], array_fill(p_task, array[cardinality(k_no)]), k_no, k_n, null,
    p_send_ms, p_bodies, p_max_bytes);
  perform tasker.reopened(p_task, p_no, p_task_was, p_send_ms, p_actor, p_reason);
end $$;

-- Resolves an unfinished, failed or cancelled step; its children receive p_result. p_growth: what a decision or batchable makes, or null.
create function tasker.resolve_step(
  p_task uuid, p_no int, p_task_was text, p_result text, p_metadata text, p_growth json, p_actor text, p_reason text, p_send_ms bigint,
  p_bodies int, p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  own tasker.steps; was_active boolean; failed int; batch record; k_no int[]; k_n int[];
begin
  select s.* into own from tasker.steps s where s.task_id = p_task and s.no = p_no;
  -- A repeated call, after the first response was lost.
  if own.state = 'resolved_manually' and own.result::jsonb is not distinct from p_result::jsonb then
    return query select * from tasker.change_row('done', state => own.state);
    return;
  end if;
  return query select * from tasker.refusal(p_task, p_no, p_task_was, own.state,
    own.state in ('pending', 'enqueued', 'in_progress', 'waiting_for_retry', 'error', 'cancelled'));
  if found then
    return;
  end if;
  if p_growth is not null then
    return query select * from tasker.refuse_growth(p_task, p_growth);
    if found then
      return;
    end if;
  end if;
  was_active := tasker.is_active(own.state, own.wake_at);
  update tasker.steps s set state = 'resolved_manually', lease = s.lease + 1, tolerated = false, awaits_callback = false,
    result = p_result::json, result_bytes = coalesce(octet_length(p_result), 0), wake_at = null, held_at = null,
    finished_at = tasker.clock(),
    created = case when p_growth is not null then
      array(select u.no::int from json_array_elements_text(p_growth->'created') with ordinality u(no, place) order by u.place) end
  where s.task_id = p_task and s.no = p_no;
  return query select * from tasker.audited(p_task, p_no, 'resolve_step', p_actor, p_reason, own.state, 'resolved_manually', p_metadata);
  failed := -(own.state in ('error', 'cancelled') and not own.tolerated)::int;
  if p_growth is not null then
    return query select * from tasker.grow(p_task, own.children, -was_active::int, failed, p_growth, p_send_ms, p_bodies, p_max_bytes);
  else
    select * into batch from tasker.reopen_batch(p_task, p_no, case when own.tolerated then '' else own.state end);
    -- The children already counted a tolerated failure as done.
    select array_agg(u.no order by u.no), array_agg(u.n order by u.no) into k_no, k_n from (
      select * from unnest(batch.no, batch.n)
      union all select p.no, 1 from tasker.pass_places(array[p_task], array[p_no & ~16383]) p where was_active and p_no & 16383 > 0
      union all select k.no, 1 from unnest(own.children) k(no) where not own.tolerated) u(no, n);
    return query select * from tasker.advance_v1(array[p_task], array[-was_active::int], array[failed - batch.revived],
      case when k_no is not null then array_fill(p_task, array[cardinality(k_no)]) end, k_no, k_n, null, p_send_ms, p_bodies, p_max_bytes);
  end if;
  perform tasker.reopened(p_task, p_no, p_task_was, p_send_ms, p_actor, p_reason);
end $$;

-- Writes a note about a task or one of its steps.
create function tasker.note(p_task uuid, p_no int, p_task_was text, p_metadata text, p_actor text, p_reason text)
returns setof tasker.change language plpgsql as $$
declare
  of_step text;
begin
  select s.state into of_step from tasker.steps s where s.task_id = p_task and s.no = p_no;
  if p_no is not null and of_step is null then
    return query select * from tasker.change_row('not_found');
    return;
  end if;
  return query select * from tasker.audited(p_task, p_no, 'note', p_actor, p_reason, coalesce(of_step, p_task_was),
    coalesce(of_step, p_task_was), p_metadata);
end $$;

-- Locks what an action may read or change, in the order of all locks.
create function tasker.lock_for(p_verb text, p_task uuid, p_no int, p_args json) returns void language plpgsql as $$
declare
  pattern int := p_no & ~16383; own tasker.steps; nos int[] := '{}'; patterns int[] := '{}';
begin
  perform tasker.lock_steps(p_task, '{}');
  if p_no is not null then
    select s.* into own from tasker.steps s where s.task_id = p_task and s.no = p_no;
    nos := p_no || own.parents || own.children
      || array(select s.no from tasker.steps s where p_no & 16383 > 0 and s.task_id = p_task and s.no > pattern and s.no < pattern + 16384
        and (s.finished_at is null or s.state = 'cancelled'))
      || array(select u.no::int from json_array_elements_text(p_args->'plan'->'touched') u(no));
    patterns := array(select b.no from tasker.batches b where b.task_id = p_task and b.no = any (
      array(select u.no & ~16383 from unnest(nos) u(no) where u.no & 16383 > 0)));
  elsif p_verb in ('cancel_task', 'reopen_task', 'resume_task', 'repair_task', 'expire_task', 'recover_task') then
    nos := array(select s.no from tasker.steps s where s.task_id = p_task and (s.finished_at is null or s.state = 'cancelled'))
      || array(select distinct u.no from tasker.steps s, unnest(s.no || s.parents || s.children) u(no)
        where p_verb = 'recover_task' and s.task_id = p_task and s.state = 'error');
    patterns := array(select b.no from tasker.batches b where b.task_id = p_task);
  end if;
  perform tasker.lock_steps(p_task, nos, patterns);
  perform from tasker.tasks t where t.task_id = p_task for update;
end $$;

-- Carries out an action on a task, or on one of its steps.
--   p_verb: cancel_task | reopen_task | resolve_task | pause_task | resume_task | note | retry_step | redo_step | resolve_step
--           | repair_task | expire_task | recover_task
--   p_args: {inputs, result, metadata, plan}, each optional; `plan` as in redo_step, or as in grow; of the last two {stale}, {entry}
--   p_seen: what the last row of the dry run said that the caller saw, or null
--   p_dry: nothing is done
-- The first row is 'done', 'not_found', 'conflict', 'again', 'too_many', or 'changed': p_seen is no longer true, and nothing was done. After
-- 'done' and 'changed' come one row 'effect' per step that changed, and a row 'seen'; after 'done', if p_dry is false, what is to be sent.
create function tasker.operate_v1(
  p_verb text, p_task uuid, p_no int, p_args json, p_actor text, p_reason text, p_seen text, p_dry boolean, p_send_ms bigint,
  p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
  task_was text; ended timestamptz; before tasker.mark[]; own json; answer tasker.change[]; effects tasker.change[]; seen text;
begin
  begin
    perform tasker.lock_for(p_verb, p_task, p_no, p_args);
    select t.state, t.finished_at into task_was, ended from tasker.tasks t where t.task_id = p_task;
    if task_was is null then
      return query select * from tasker.change_row('not_found');
      return;
    end if;
    own := tasker.audited_step(p_task, p_no);
    before := array(select (s.no, s.name, s.state, s.lease)::tasker.mark from tasker.steps s where s.task_id = p_task order by s.no);
    answer := array(select c from tasker.act(p_verb, p_task, p_no, task_was, p_args, p_actor, p_reason, p_send_ms, p_bodies, p_max_bytes) c);
    if (answer[1]).kind = 'done' then
      effects := array(
        select c from (
          select coalesce(b.no, s.no) as no, coalesce(b.name, s.name) as name, b.state as was, b.lease, coalesce(s.state, 'deleted') as state
          from unnest(before) b full join (select * from tasker.steps q where q.task_id = p_task) s on s.no = b.no
          where b.no is null or s.no is null or b.state <> s.state or b.lease <> s.lease order by 1) e,
          tasker.change_row('effect', task_id => p_task, no => e.no, lease => e.lease, name => e.name, was => e.was, state => e.state) c);
      -- With the time at which the task finished: one that failed twice is not the one that was seen.
      select md5(concat_ws(',', task_was, extract(epoch from ended), string_agg(concat_ws(' ', e.no, e.was, e.lease, e.state), ',' order by e.no)))
      into seen from unnest(effects) e;
      if p_dry or seen <> p_seen then
        raise exception using errcode = 'TK001', message = 'rolled back';
      end if;
      perform tasker.audit_changes(p_verb, p_task, p_no, own, effects);
    end if;
  exception when sqlstate 'TK001' then
    answer := array(select c from tasker.change_row(case when p_dry then 'done' else 'changed' end, state => task_was) c);
  end;
  return next answer[1];
  return query select * from unnest(effects);
  if seen is not null then
    return query select * from tasker.change_row('seen', name => seen);
  end if;
  return query select * from unnest(answer[2:]);
end $$;

-- Completes what an action just wrote to the audit log. One without effect wrote no row, and a recovery one for each step.
create function tasker.audit_changes(p_verb text, p_task uuid, p_no int, p_before json, p_effects tasker.change[]) returns void
language sql as $$
  update tasker.audit_log a set to_state = coalesce(case when p_no is not null then s.after->>'state' end, a.to_state),
    changes = json_build_object('before', p_before, 'after', s.after,
      'steps', (select coalesce(json_agg(json_build_object('no', e.no, 'name', e.name, 'before', e.was, 'after', e.state)), '[]')
        from unnest(p_effects[:tasker.audited_steps()]) e),
      'not_listed', greatest(coalesce(cardinality(p_effects), 0) - tasker.audited_steps(), 0))
  from (select tasker.audited_step(p_task, p_no) as after) s
  where a.task_id = p_task and a.action = case p_verb when 'recover_task' then 'retry_step' else p_verb end and a.changes is null
$$;

create function tasker.act(
  p_verb text, p_task uuid, p_no int, p_was text, p_args json, p_actor text, p_reason text, p_send_ms bigint, p_bodies int,
  p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  metadata text := p_args->'metadata'; inputs text := p_args->'inputs';
begin
  case p_verb
    when 'cancel_task' then
      return query select * from tasker.cancel_task(p_task, p_was, metadata, p_actor, p_reason);
    when 'reopen_task' then
      return query select * from tasker.reopen_task(p_task, p_was, metadata, p_actor, p_reason, p_send_ms, p_bodies, p_max_bytes);
    when 'resolve_task' then
      return query select * from tasker.resolve_task(p_task, p_was, metadata, p_actor, p_reason, p_send_ms);
    when 'pause_task', 'resume_task' then
      return query select * from tasker.pause_task(p_task, p_verb = 'pause_task', p_was, metadata, p_actor, p_reason, p_send_ms,
        p_bodies, p_max_bytes);
    when 'repair_task' then
      return query select * from tasker.repair_task(p_task, p_was, p_actor, p_reason, p_send_ms, p_bodies, p_max_bytes);
    when 'expire_task' then
      return query select * from tasker.expire_task(p_task, p_was, p_args->'stale', p_actor, p_reason);
    when 'recover_task' then
      return query select * from tasker.recover_task(p_task, p_was, (p_args->>'entry')::uuid, metadata, p_actor, p_reason, p_send_ms,
        p_bodies, p_max_bytes);
    when 'note' then
      return query select * from tasker.note(p_task, p_no, p_was, metadata, p_actor, p_reason);
    when 'retry_step' then
      return query select * from tasker.retry_step(p_task, p_no, p_was, inputs, metadata, p_actor, p_reason, p_send_ms, p_bodies,
        p_max_bytes);
    when 'redo_step' then
      return query select * from tasker.redo_step(p_task, p_no, p_was, p_args->'plan', inputs, metadata, p_actor, p_reason, p_send_ms,
        p_bodies, p_max_bytes);
    when 'resolve_step' then
      return query select * from tasker.resolve_step(p_task, p_no, p_was, (p_args->'result')::text, metadata, p_args->'plan', p_actor,
        p_reason, p_send_ms, p_bodies, p_max_bytes);
  end case;
end $$;
