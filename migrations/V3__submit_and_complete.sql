-- Submit and completion. Each handles a batch in one call and one commit.

-- Inserts tasks with all their steps, and dispatches the roots. The steps of a template in an environment are passed once, and each
-- task refers to them by index (t_template). A task whose identity or id already exists is not inserted; its row describes the
-- existing task.
-- Returns one row per task, by index: `created` if it was inserted, `dispatched` if its roots must be sent.
create function tasker.submit_v1(
  t_task uuid[], t_template int[], t_identity bytea[], t_context text[], t_priority int[], t_tags text[], t_initiator text[],
  t_source_system text[], t_reason text[], t_correlation uuid[], t_parent_correlation uuid[], t_traceparent text[],
  w_template int[], w_template_id uuid[], w_namespace text[], w_name text[], w_version text[], w_environment text[],
  w_roots int[], w_total int[],
  s_template int[], s_no int[], s_name text[], s_max_attempts int[], s_parents text[], s_children text[], s_further text[],
  p_send_ms bigint)
returns table (idx int, task_id uuid, state text, created boolean, dispatched boolean, created_at timestamptz)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  made uuid[]; held int[];
begin
  select array_agg(u.template) into held from unnest(w_template, w_namespace, w_name) u(template, namespace, name)
  where exists (select from tasker.pauses p where p.namespace = u.namespace and p.template in ('', u.name));
  if held is not null then
    select array_agg(u.template) into held from unnest(w_template, w_namespace, w_name) u(template, namespace, name)
    where u.template = any (held) and tasker.is_paused(u.namespace, u.name);
  end if;

  with t as (
    select * from unnest(t_task, t_template, t_identity, t_context, t_priority, t_tags, t_initiator, t_source_system, t_reason,
      t_correlation, t_parent_correlation, t_traceparent) u(task_id, template, identity, context, priority, tags, initiator,
      source_system, reason, correlation_id, parent_correlation_id, traceparent)
  ), w as (
    select * from unnest(w_template, w_template_id, w_namespace, w_name, w_version, w_environment, w_roots, w_total)
      u(template, template_id, namespace, name, version, environment, roots, total)
  ), new as (
    insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, state, active_steps, failed_steps,
      total_steps, identity, context, priority, tags, initiator, source_system, reason, correlation_id, parent_correlation_id,
      traceparent, created_at, finished_at)
    select t.task_id, w.template_id, w.namespace, w.name, w.version, w.environment,
      case when w.total = 0 then 'complete' else 'running' end, w.roots, 0, w.total, t.identity, t.context::json, t.priority,
      t.tags::text[], t.initiator, t.source_system, t.reason, t.correlation_id, t.parent_correlation_id, t.traceparent,
      tasker.clock(), case when w.total = 0 then tasker.clock() end
    from t join w using (template) order by t.identity, t.task_id
    on conflict do nothing
    returning task_id, state
  ), named as (
    insert into tasker.in_process (task_id) select n.task_id from new n where p_send_ms is null and n.state = 'running'
  ), steps as (
    insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children,
      further_ancestors, wake_at, held_at, dispatched_at)
    select n.task_id, s.no, s.name, case when s.run then 'enqueued' else 'pending' end, s.run::int, s.run::int, s.max_attempts,
      cardinality(s.parents), s.parents, s.children, s.further,
      case when not s.root then null when not s.run then tasker.clock_after(tasker.hold_ms())
           else tasker.clock_after(p_send_ms) end,
      case when s.root and not s.run then tasker.clock() end,
      case when s.run then tasker.clock() end
    from new n join t using (task_id) join (
      select u.template, u.no, u.name, u.max_attempts, u.parents::int[], u.children::int[], u.further::int[], u.parents = '{}' as root,
        u.parents = '{}' and not u.template = any (coalesce(held, '{}')) as run
      from unnest(s_template, s_no, s_name, s_max_attempts, s_parents, s_children, s_further)
        u(template, no, name, max_attempts, parents, children, further)) s using (template)
  )
  select array_agg(task_id) into made from new;

  -- A later statement, so that it sees the row of a concurrent submit with the same identity that this one waited for.
  return query
    select u.idx::int, e.task_id, e.state, u.task_id = any (coalesce(made, '{}')),
      u.task_id = any (coalesce(made, '{}')) and not u.template = any (coalesce(held, '{}')), e.created_at
    from unnest(t_task, t_template, t_identity) with ordinality u(task_id, template, identity, idx),
      lateral (select * from tasker.tasks q where q.task_id = u.task_id
               union all select * from tasker.tasks q where q.identity = u.identity and q.task_id <> u.task_id
               limit 1) e;
end $$;

-- The outcome that `attempts` records for a verdict. The planner inlines it.
create function tasker.outcome_of(verdict text) returns text language sql immutable as $$
  select case when verdict = 'complete' then 'success' when verdict in ('checkpoint', 'released') then verdict else 'failure' end
$$;

-- What the row of a checkpoint in `attempts` tells.
create function tasker.progress(checkpoint json) returns json language sql immutable as $$
  select json_build_object('cursor', checkpoint->'cursor', 'items_processed', checkpoint->'items_processed')
$$;
-- The rows of checkpoints that are kept of a step.
create function tasker.kept_checkpoints() returns int language sql immutable as 'select 100';

-- Applies a batch of verdicts, ascending by (task_id, no), at most one per step.
--   verdict: complete | error | tolerated | retry | checkpoint | released | lost | started | callback
--   delay_ms: until the retry, the deadline or the expiry · body: the result or the checkpoint · error: why it failed
--   if_due: apply only if the deadline is still in the past; a heartbeat may have extended it
-- The answer of a success is recorded in the step's row, that of another outcome in `attempts`.
-- A completion under another lease has no effect. It is recorded in `attempts` if the step once had that lease; of a lease that had an
-- outcome already only that a success came too.
create function tasker.complete_v1(
  p_task uuid[], p_no int[], p_lease int[], p_attempt int[], p_verdict text[], p_delay_ms bigint[], p_body text[], p_error text[],
  p_metadata text[], p_digest bigint[], p_worker text[], p_duration_ms bigint[], p_if_due boolean[],
  p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  ok int[]; d_task uuid[]; d_failed int[]; k_task uuid[]; k_no int[]; k_n int[]; w_task uuid[]; w_no int[];
  c_task uuid[]; c_no int[]; c_lease int[]; c_at timestamptz[];
begin
  -- A checkpoint that did not get on. The step keeps the time since which it has not, so that it becomes stale.
  if 'checkpoint' = any (p_verdict) then
    select array_agg(s.task_id), array_agg(s.no), array_agg(s.lease), array_agg(s.dispatched_at) into c_task, c_no, c_lease, c_at
    from unnest(p_task, p_no, p_lease, p_verdict, p_body) i(task_id, no, lease, verdict, body),
      lateral (select q.* from tasker.steps q where q.task_id = i.task_id and q.no = i.no and q.lease = i.lease offset 0) s
    where i.verdict = 'checkpoint' and tasker.progress(s.checkpoint)::text = tasker.progress(i.body::json)::text;
  end if;

  -- First the completed steps: check the fence, set the state, insert other outcomes into attempts, and count the finished parents of
  -- each child.
  -- A step that is dispatched again becomes pending here, and advance_v1 dispatches it like a child with n = 0.
  with own as (
    update tasker.steps s set
      state = case i.verdict when 'complete' then 'complete' when 'error' then 'error' when 'tolerated' then 'error'
        when 'retry' then 'waiting_for_retry' when 'started' then 'in_progress' when 'callback' then 'in_progress' else 'pending' end,
      tolerated = i.verdict = 'tolerated',
      awaits_callback = i.verdict = 'callback',
      losses = case when i.verdict = 'lost' then s.losses + 1 when i.verdict = 'retry' then 0 else s.losses end,
      result = case when i.verdict = 'complete' then i.body::json end,
      result_bytes = case when i.verdict = 'complete' then octet_length(i.body) else 0 end,
      error = case when i.verdict in ('retry', 'error', 'tolerated') then i.error::json when i.verdict <> 'complete' then s.error end,
      checkpoint = case when i.verdict = 'checkpoint' then i.body::json when i.verdict <> 'complete' then s.checkpoint end,
      digest = case when i.verdict = 'complete' then p_digest[i.idx] end,
      duration_ms = case when i.verdict = 'complete' then p_duration_ms[i.idx] end,
      worker = case when i.verdict = 'complete' then p_worker[i.idx] end,
      metadata = case when i.verdict = 'complete' then p_metadata[i.idx]::json end,
      started_at = case when i.verdict = 'started' then coalesce(s.started_at, tasker.clock()) else s.started_at end,
      finished_at = case when i.verdict in ('complete', 'error', 'tolerated') then tasker.clock() end,
      wake_at = case when i.verdict in ('retry', 'callback') then tasker.clock_after(i.delay_ms)
        when i.verdict = 'started' then greatest(tasker.clock_after(i.delay_ms),
          case when s.state = 'in_progress' then s.wake_at end) end
    from unnest(p_task, p_no, p_lease, p_verdict, p_delay_ms, p_body, p_error, p_if_due) with ordinality
      as i(task_id, no, lease, verdict, delay_ms, body, error, if_due, idx)
    where s.task_id = any (array[i.task_id]) and s.no = i.no and s.lease = i.lease and s.state in ('enqueued', 'in_progress')
      and (not i.if_due or s.wake_at <= tasker.clock()) and (i.verdict <> 'started' or not s.awaits_callback)
    returning i.idx::int as idx, s.task_id, s.no, s.lease, s.attempt, i.verdict, s.children, s.dispatched_at
  ), recorded as (
    insert into tasker.attempts (task_id, no, lease, attempt, outcome, applied, digest, error, metadata, worker, duration_ms,
      dispatched_at, finished_at)
    select o.task_id, o.no, o.lease, o.attempt, tasker.outcome_of(o.verdict),
      true, p_digest[o.idx], p_error[o.idx]::json,
      case o.verdict when 'checkpoint' then tasker.progress(p_body[o.idx]::json) else p_metadata[o.idx]::json end,
      p_worker[o.idx], p_duration_ms[o.idx], o.dispatched_at, tasker.clock()
    from own o where o.verdict not in ('complete', 'started', 'callback', 'lost')
  ), forgotten as (
    -- Of a step's checkpoints the last ones are kept.
    delete from tasker.attempts a using own o
    where a.task_id = any (array[o.task_id]) and a.no = o.no and a.lease = o.lease - tasker.kept_checkpoints()
      and a.outcome = 'checkpoint' and o.verdict = 'checkpoint'
  ), ended as (
    select array_agg(o.idx) as idx, array_agg(o.task_id) filter (where o.verdict not in ('started', 'callback', 'retry')) as task_id,
      array_agg((o.verdict = 'error')::int) filter (where o.verdict not in ('started', 'callback', 'retry')) as failed,
      array_agg(o.task_id) filter (where o.no & 16383 > 0 and o.verdict in ('complete', 'tolerated', 'error')) as w_task,
      array_agg(o.no & ~16383) filter (where o.no & 16383 > 0 and o.verdict in ('complete', 'tolerated', 'error')) as w_no
    from own o
  ), kids as (
    select array_agg(k.task_id) as task_id, array_agg(k.no) as no, array_agg(k.n) as n
    from (
      select o.task_id, c.no, sum(c.n)::int as n from own o,
        lateral (select u.no, 1 from unnest(o.children) u(no) where o.verdict in ('complete', 'tolerated')
          union all select o.no, 0 where o.verdict in ('checkpoint', 'released', 'lost')) c(no, n)
      group by 1, 2 order by 1, 2) k
  )
  select e.idx, e.task_id, e.failed, e.w_task, e.w_no, k.task_id, k.no, k.n into ok, d_task, d_failed, w_task, w_no, k_task, k_no, k_n
  from ended e, kids k;

  return query select c.* from unnest(ok) u(idx), tasker.change_row('accepted', idx => u.idx) c;

  if coalesce(cardinality(ok), 0) < cardinality(p_task) then
    insert into tasker.attempts as a (task_id, no, lease, attempt, outcome, applied, digest, error, worker, duration_ms, finished_at, late,
      result)
    select i.task_id, i.no, i.lease, i.attempt, tasker.outcome_of(i.verdict),
      false, i.digest, i.error::json, i.worker, i.duration_ms, tasker.clock(), i.verdict = 'complete',
      case when i.verdict = 'complete' and octet_length(i.body) <= 262144 then i.body::json end
    from unnest(p_task, p_no, p_lease, p_attempt, p_verdict, p_body, p_error, p_digest, p_worker, p_duration_ms, p_if_due) with ordinality
        as i(task_id, no, lease, attempt, verdict, body, error, digest, worker, duration_ms, if_due, idx),
      lateral (select q.lease, q.state from tasker.steps q where q.task_id = i.task_id and q.no = i.no offset 0) s
    where not i.idx = any (coalesce(ok, '{}')) and i.lease > 0 and not i.if_due and i.verdict not in ('started', 'callback', 'lost')
      and (s.lease > i.lease or s.lease = i.lease and s.state in ('waiting_for_retry', 'error') and i.verdict = 'complete')
    -- Its lease had another outcome, such as that it was given up.
    on conflict (task_id, no, lease) do update set late = true, result = excluded.result
      where excluded.late and not a.late and a.outcome <> 'success';
    return query select c.* from unnest(p_task, p_no, p_lease, p_digest, p_verdict) with ordinality as i(task_id, no, lease, digest, verdict, idx)
      left join lateral (select q.lease, q.state, q.digest from tasker.steps q
        where q.task_id = i.task_id and q.no = i.no offset 0) s on true
      left join lateral (select q.applied, q.digest from tasker.attempts q
        where q.task_id = i.task_id and q.no = i.no and q.lease = i.lease offset 0) a on true,
      tasker.change_row(
        case when (a.applied and a.digest = i.digest or s.lease = i.lease and s.digest = i.digest)
               and i.verdict not in ('started', 'callback', 'lost') then 'duplicate'
             when s.lease is null or i.lease > s.lease or i.lease < 1 then 'refused'
             when s.lease = i.lease and s.state in ('enqueued', 'in_progress') then 'ignored'
             else 'stale' end, idx => i.idx::int) c
    where not i.idx = any (coalesce(ok, '{}'));
  end if;

  -- Before any step after the workers is locked.
  if w_task is not null then
    select array_agg(k.task_id), array_agg(k.no), array_agg(k.n) into k_task, k_no, k_n from (
      select u.task_id, u.no, u.n from unnest(k_task, k_no, k_n) u(task_id, no, n)
      union all select p.task_id, p.no, 1 from tasker.pass_places(w_task, w_no) p order by 1, 2) k;
  end if;

  if d_task is not null or k_task is not null then
    return query select * from tasker.advance_v1(
      d_task, array_fill(-1, array[cardinality(d_task)]), d_failed, k_task, k_no, k_n, null, p_send_ms, p_bodies, p_max_bytes);
  end if;

  if c_task is not null then
    update tasker.steps s set dispatched_at = c.dispatched_at
    from unnest(c_task, c_no, c_lease, c_at) c(task_id, no, lease, dispatched_at)
    where s.task_id = any (array[c.task_id]) and s.no = c.no and s.lease = c.lease + 1 and s.state = 'enqueued';
  end if;
end $$;
