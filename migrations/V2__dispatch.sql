-- Dispatch: a step becomes enqueued under a new lease, and the content of its message is returned. Only submit_v1 (roots) dispatches
-- elsewhere, and only cancel_v1 changes counters elsewhere.

-- A row returned by the functions for completion, dispatch, sweep and operator actions. `kind` determines which columns are set:
--   accepted, duplicate, stale, refused, ignored   idx: the answer to the completion at that index (from 1)
--   finished      task_id, state: this call finished the task
--   task          task_id and the data shared by its messages: template_id, environment, correlation_id, traceparent, context
--   run           task_id, no, lease, …: a message to send, with its inputs
--   run_key       task_id, no, lease: a message to load and send
--   again         what an expansion was planned from has changed: nothing was made
--   effect        no, name, lease, was, state: what an operator's action changes in a step, or a failure that ends its batch
--   too_many      ms: an expansion would make more steps than a task may have, which has so many: nothing was made
--   early         task_id, no, lease, ms: the retry is due in this many milliseconds
--   lost          task_id, no, lease, attempt, losses, template_id, environment: a started step without a report until its deadline
--   expired       the same columns: a callback that did not arrive in time
--   done          state: the operator action was applied; the state before it
--   not_found     there is no such task or step
--   conflict      task_id, no, state: the step, or without a number the task, is in a state that forbids the action
create type tasker.change as (
  kind text, idx int, task_id uuid, no int, lease int, attempt int, max_attempts int, resends int, losses int,
  ms bigint, state text, template_id uuid, environment text, correlation_id uuid, traceparent text,
  context text, results text, result_bytes bigint, inputs text, checkpoint text,
  -- Of a batch worker its name, which the template does not know; of a message the failures of tolerated parents by name, and from the
  -- second attempt on the failure before.
  name text, errors text, failure text,
  -- The state before an operator's action.
  was text
);

-- Builds one such row. In a FROM clause the planner inlines it, so it costs nothing at run time.
create function tasker.change_row(
  kind text, idx int default null, task_id uuid default null, no int default null, lease int default null,
  attempt int default null, max_attempts int default null, resends int default null, losses int default null,
  ms bigint default null, state text default null, template_id uuid default null, environment text default null,
  correlation_id uuid default null, traceparent text default null, context text default null, results text default null,
  result_bytes bigint default null, inputs text default null, checkpoint text default null,
  name text default null, errors text default null, failure text default null, was text default null)
returns setof tasker.change language sql immutable rows 1 as $$
  select kind, idx, task_id, no, lease, attempt, max_attempts, resends, losses, ms, state, template_id, environment,
    correlation_id, traceparent, context, results, result_bytes, inputs, checkpoint, name, errors, failure, was
$$;

-- A failure as a step after it sees it: short, because it may be one of 10,000.
create function tasker.brief(error json) returns json language sql immutable as $$
  select json_build_object('message', left(error->>'message', 200), 'error_type', error->>'error_type',
    'error_code', error->>'error_code', 'retryable', (error->>'retryable')::boolean)
$$;
-- A failure as the next attempt sees it. A large context is left out.
create function tasker.bounded(error json) returns text language sql immutable as $$
  select case when octet_length(error::text) <= 16384 then error::text else (error::jsonb - 'context')::text end
$$;

-- Returns the messages of enqueued steps: first one row 'task' per task, then one row per step. If the results of the parents exceed
-- p_max_bytes, only their size is returned, and the caller fails the step. Results of further ancestors are included, nearest
-- first, up to the same limit. When the messages together exceed four times p_max_bytes, the rest is returned as 'run_key'.
-- `lateral (… offset 0)` forces look-ups by key, even while the statistics are out of date.
create function tasker.load_run_steps_v1(p_task uuid[], p_no int[], p_max_bytes bigint) returns setof tasker.change
language sql stable as $$
  select c.* from (select distinct u.task_id from unnest(p_task) u(task_id)) k,
    lateral (select q.task_id, q.template_id, q.environment, q.correlation_id, q.traceparent, q.context
      from tasker.tasks q where q.task_id = k.task_id offset 0) t,
    tasker.change_row('task', task_id => t.task_id, template_id => t.template_id, environment => t.environment,
      correlation_id => t.correlation_id, traceparent => t.traceparent, context => t.context::text) c
  union all
  select c.* from (select q.*, b.bytes, sum(least(b.bytes, p_max_bytes)) over (order by k.place) <= 4 * p_max_bytes as fits
        from unnest(p_task, p_no) with ordinality k(task_id, no, place),
          lateral (select q.task_id, q.no, q.name, q.lease, q.attempt, q.max_attempts, q.resends, q.inputs, q.checkpoint, q.parents,
              q.further_ancestors, case when q.attempt > 1 then tasker.bounded(q.error) end as failure
            from tasker.steps q where q.task_id = k.task_id and q.no = k.no and q.state = 'enqueued' offset 0) q,
          lateral (select coalesce(sum(p.result_bytes), 0)::bigint as bytes from unnest(q.parents) u(no),
            lateral (select p.result_bytes from tasker.steps p where p.task_id = q.task_id and p.no = u.no offset 0) p) b) s,
    -- Aggregates results only for messages that are returned.
    lateral (select json_object_agg(a.name, a.result)::text as results,
        json_object_agg(a.name, tasker.brief(a.error)) filter (where a.tolerated)::text as errors
      from (select p.name, p.result, p.tolerated, p.error, sum(p.result_bytes) over (order by u.parent desc, u.no desc) as bytes
        from (select n, true from unnest(s.parents) n union all select n, false from unnest(s.further_ancestors) n) u(no, parent),
          lateral (select p.name, p.result, p.result_bytes, p.tolerated, p.error from tasker.steps p
            where p.task_id = s.task_id and p.no = u.no offset 0) p
        where s.fits and s.bytes <= p_max_bytes) a
      where a.bytes <= p_max_bytes) r,
    tasker.change_row(case when s.fits then 'run' else 'run_key' end, task_id => s.task_id, no => s.no, lease => s.lease,
      attempt => s.attempt, max_attempts => s.max_attempts, resends => s.resends, results => r.results, result_bytes => s.bytes,
      inputs => case when s.fits then s.inputs::text end, checkpoint => case when s.fits then s.checkpoint::text end,
      name => case when s.no & 16383 > 0 then s.name end, errors => r.errors, failure => s.failure) c
$$;

-- Whether a namespace or template is paused. A pause that is found does not end before this transaction does: what ends it then sees what
-- was held because of it.
create function tasker.is_paused(p_namespace text, p_name text) returns boolean language plpgsql as $$
begin
  perform from tasker.pauses p where p.namespace = p_namespace and p.template in ('', p_name) for share;
  return found;
end $$;

-- What an operator needs to judge a task: itself, its steps by state, the first 20 that failed, and the first 20 that may still move.
-- p_about: more about what the entry is about, or null.
create function tasker.snapshot(p_task uuid, p_about json) returns json language sql stable as $$
  select json_build_object(
    'task', json_build_object('namespace', t.namespace, 'name', t.name, 'version', t.version, 'environment', t.environment, 'state', t.state,
      'created_at', t.created_at, 'paused_at', t.paused_at, 'correlation_id', t.correlation_id, 'initiator', t.initiator),
    'steps', (select json_object_agg(x.state, x.steps) from (
      select q.state, count(*) as steps from tasker.steps q where q.task_id = t.task_id group by q.state order by q.state) x),
    'failed_steps', (select coalesce(json_agg(json_build_object('no', q.no, 'name', q.name, 'state', q.state, 'attempt', q.attempt,
        'max_attempts', q.max_attempts, 'lease', q.lease, 'finished_at', q.finished_at, 'worker', a.worker,
        'error', tasker.bounded(q.error)::json)), '[]')
      from (select * from tasker.steps p where p.task_id = t.task_id and p.state = 'error' and not p.tolerated order by p.no limit 20) q
        left join lateral (select p.worker from tasker.attempts p
          where p.task_id = q.task_id and p.no = q.no and p.lease = q.lease offset 0) a on true),
    'live_steps', (select coalesce(json_agg(json_build_object('no', q.no, 'name', q.name, 'state', q.state, 'attempt', q.attempt,
        'max_attempts', q.max_attempts, 'lease', q.lease, 'resends', q.resends, 'losses', q.losses, 'dispatched_at', q.dispatched_at,
        'started_at', q.started_at, 'wake_at', q.wake_at, 'held_at', q.held_at)), '[]')
      from (select * from tasker.steps p where p.task_id = t.task_id and p.finished_at is null
          and (p.state <> 'pending' or p.wake_at is not null) order by p.no limit 20) q),
    'about', p_about)
  from tasker.tasks t where t.task_id = p_task
$$;

-- Opens an entry. p_detail: the type of the failure, or the reason in detail; p_message: what tells the cause apart from others;
-- p_lease: as in the table; p_state: the task's state before. Returns its id; null: the task has such an entry already, or does not exist.
create function tasker.open_entry(
  p_task uuid, p_no int, p_reason text, p_detail text, p_message text, p_lease int, p_about json, p_state text default null)
returns uuid language sql as $$
  insert into tasker.dlq_entries (task_id, no, namespace, template, step, lease, original_state, reason, reason_detail, fingerprint, snapshot,
    created_at, updated_at)
  select t.task_id, p_no, t.namespace, t.name, s.name, p_lease, coalesce(p_state, t.state), p_reason, p_detail,
    -- The workers of a batch share what differs in their names.
    tasker.fingerprint(t.namespace, t.name, case when p_no & 16383 > 0 then tasker.cause(s.name) else s.name end, p_detail, p_message),
    tasker.snapshot(t.task_id, p_about), tasker.clock(), tasker.clock()
  from tasker.tasks t
    left join lateral (select q.name from tasker.steps q where q.task_id = p_task and q.no = p_no offset 0) s on true
  where t.task_id = p_task
  on conflict (task_id, reason) where status = 'pending' do nothing
  returning dlq_entry_id
$$;

-- Opens the entries of failed tasks, each about its first failed step.
create function tasker.enter_failed(p_task uuid[]) returns void language sql as $$
  select tasker.open_entry(u.task_id, e.no, 'max_retries_exceeded', coalesce(e.error->>'error_type', 'unknown'), e.error->>'message',
    null, null, 'running')
  from unnest(p_task) u(task_id) left join lateral (
    select p.no, p.error from tasker.steps p where p.task_id = u.task_id and p.state = 'error' and not p.tolerated
    order by p.no limit 1) e on true
$$;

-- Applies changes of steps to their children and tasks, and returns the messages to send.
--   d_*  changes of a task's counters, one per step that finished or was retried (a task may occur several times)
--   k_*  steps whose pending_parents decreases by n, ascending, each once; those that reach 0 are dispatched. n = 0: dispatch now.
--        If k_lease is given, the steps already count as active: each is dispatched only under its lease and only when due.
-- The caller locked and updated its own steps in an earlier statement.
-- p_send_ms: the time until a message is re-sent if the queue did not accept it; null: the queue is inside the caller's process, so
-- `wake_at` stays null. The tasks of the completed steps are in `in_process` then; those of due retries may not be yet.
-- p_bodies: the number of messages returned whole; of the others only the keys are returned.
-- `task_id = any (array[…])`, here and in other updates, means `=`, but gives the planner no order: a generic plan made while
-- the tables were nearly empty can then never scan the whole index.
create function tasker.advance_v1(
  d_task uuid[], d_active int[], d_failed int[], k_task uuid[], k_no int[], k_n int[], k_lease int[],
  p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  held uuid[]; e_task uuid[]; e_no int[]; e_lease int[]; r_task uuid[]; f_task uuid[]; f_from text[]; f_state text[];
begin
  if k_task is not null then
    select array_agg(t.task_id) into held from tasker.tasks t
    where t.task_id = any (k_task) and (t.paused_at is not null or exists (
      select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name)));
    if held is not null then
      -- Asked again under locks for which the end of a pause waits, so that it sees what is held here.
      perform from unnest(k_task, k_no) k(task_id, no),
        lateral (select from tasker.steps q where q.task_id = k.task_id and q.no = k.no and k.task_id = any (held) for update) s;
      select array_agg(t.task_id) into held from tasker.tasks t
      where t.task_id = any (held) and (t.paused_at is not null or tasker.is_paused(t.namespace, t.name));
    end if;

    -- Exactly one of several concurrent parents sees the count reach 0, because an update that waited re-reads the row.
    with ready as (
      update tasker.steps s set
        pending_parents = s.pending_parents - k.n,
        state = case when s.pending_parents = k.n and not k.held then 'enqueued' else s.state end,
        lease = case when s.pending_parents = k.n and not k.held then s.lease + 1 else s.lease end,
        attempt = case when s.pending_parents = k.n and not k.held
                       then greatest(s.attempt + (s.state = 'waiting_for_retry')::int, 1) else s.attempt end,
        resends = 0,
        started_at = null,
        dispatched_at = case when s.pending_parents = k.n and not k.held then tasker.clock() else s.dispatched_at end,
        wake_at = case when s.pending_parents <> k.n then null
                       when k.held then tasker.hold_until(coalesce(s.held_at, tasker.clock())) else tasker.clock_after(p_send_ms) end,
        held_at = case when s.pending_parents = k.n and k.held then coalesce(s.held_at, tasker.clock()) end
      from (select u.task_id, u.no, u.n, u.lease, u.task_id = any (coalesce(held, '{}')) as held
            from unnest(k_task, k_no, k_n, k_lease) u(task_id, no, n, lease)) k
      -- A CASE, so that the planner cannot use the index on wake_at, which would lock the rows in another order.
      where s.task_id = any (array[k.task_id]) and s.no = k.no
        and case when k_lease is null then s.state = 'pending'
                 else s.lease = k.lease and s.state in ('waiting_for_retry', 'pending') and s.wake_at <= tasker.clock() end
      returning s.task_id, s.no, s.lease, s.state, s.pending_parents)
    select array_agg(r.task_id) filter (where r.state = 'enqueued'), array_agg(r.no) filter (where r.state = 'enqueued'),
      array_agg(r.lease) filter (where r.state = 'enqueued'),
      array_agg(r.task_id) filter (where r.pending_parents = 0 and k_lease is null)
    into e_task, e_no, e_lease, r_task from ready r;
  end if;

  -- If one step of each task finished and one became ready, the counters do not change.
  if (d_task is not null or r_task is not null) and (d_task is distinct from r_task or 0 <> any (d_failed) or -1 <> any (d_active)) then
    with finished as (
      update tasker.tasks t set
        active_steps = t.active_steps + x.active,
        failed_steps = t.failed_steps + x.failed,
        state = case when t.active_steps + x.active > 0 then 'running'
                     when t.failed_steps + x.failed > 0 then 'error' else 'complete' end,
        finished_at = case when t.active_steps + x.active > 0 then null
                           -- It had already failed and is still failed.
                           when t.active_steps = 0 and t.failed_steps + x.failed > 0 then t.finished_at
                           else tasker.clock() end
      from (select y.task_id, sum(y.active)::int as active, sum(y.failed)::int as failed
            from (select u.task_id, u.active, u.failed from unnest(d_task, d_active, d_failed) u(task_id, active, failed)
                  union all select u.task_id, 1, 0 from unnest(r_task) u(task_id)) y
            group by y.task_id having sum(y.active) <> 0 or sum(y.failed) <> 0 order by y.task_id) x
      where t.task_id = any (array[x.task_id]) and t.state in ('running', 'error')
      returning t.task_id, t.state, t.active_steps, x.active)
    -- A task that had active steps was running. A task without them had failed, and an operator resolved its last failure.
    select array_agg(f.task_id), array_agg(case when f.active < 0 then 'running' else 'error' end), array_agg(f.state)
    into f_task, f_from, f_state from finished f where f.active_steps = 0 and (f.active < 0 or f.state = 'complete');
  end if;

  if e_task is not null and k_lease is not null and p_send_ms is null then
    insert into tasker.in_process (task_id) select distinct u.task_id from unnest(e_task) u(task_id) order by 1 on conflict do nothing;
  end if;

  if f_task is not null then
    delete from tasker.in_process p where p.task_id = any (f_task);
    insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
    select u.task_id, 'finish', 'tasker', case u.state when 'error' then 'no step can make progress' else 'every step is done' end,
      u.was, u.state, tasker.clock() from unnest(f_task, f_from, f_state) u(task_id, was, state);
    if 'error' = any (f_state) then
      perform tasker.enter_failed(array(select u.task_id from unnest(f_task, f_state) u(task_id, state) where u.state = 'error'));
    end if;
    return query select c.* from unnest(f_task, f_state) u(task_id, state),
      tasker.change_row('finished', task_id => u.task_id, state => u.state) c;
  end if;

  -- Read in a later statement: one that waited for a lock keeps its old snapshot of other rows and would miss a parent's result.
  if e_task is not null then
    return query select * from tasker.load_run_steps_v1(e_task[:p_bodies], e_no[:p_bodies], p_max_bytes);
    if cardinality(e_task) > p_bodies then
      return query select c.* from unnest(e_task[p_bodies + 1:], e_no[p_bodies + 1:], e_lease[p_bodies + 1:]) u(task_id, no, lease),
        tasker.change_row('run_key', task_id => u.task_id, no => u.no, lease => u.lease) c;
    end if;
  end if;
end $$;

-- Dispatches due retries and ready steps that a pause held; the arguments are ascending by (task_id, no).
-- A step is dispatched only under the given lease and only when due. For an early retry, 'early' returns the remaining time.
create function tasker.dispatch_v1(
  p_task uuid[], p_no int[], p_lease int[], p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
begin
  return query select * from tasker.advance_v1(
    null, null, null, p_task, p_no, array_fill(0, array[cardinality(p_task)]), p_lease, p_send_ms, p_bodies, p_max_bytes);

  return query select c.* from unnest(p_task, p_no, p_lease) k(task_id, no, lease),
    lateral (select * from tasker.steps q where q.task_id = k.task_id and q.no = k.no offset 0) s,
    tasker.change_row('early', task_id => s.task_id, no => s.no, lease => s.lease,
      ms => ceil(extract(epoch from s.wake_at - tasker.clock()) * 1000)::bigint) c
  where s.lease = k.lease and s.state = 'waiting_for_retry' and s.wake_at > tasker.clock();
end $$;
