-- Reads of tasks for people: with the state of each step, and with what explains it. Functions, because planning the statements takes longer
-- than running them.

-- Returns one row per existing task, ascending. Each s_ column is an array over the steps in topological order; null without steps.
-- Reads the last failure only of steps that can have one: dispatched more than once, failed, or waiting again after a dispatch.
create function tasker.task_detail_v1(p_task uuid[]) returns table (
  task_id uuid, namespace text, name text, version text, environment text, template_id uuid, state text, paused boolean, context text, priority int,
  tags text[], initiator text, source_system text, reason text, correlation_id uuid, parent_correlation_id uuid,
  created_at timestamptz, paused_at timestamptz, finished_at timestamptz, moved_at timestamptz,
  s_no int[], s_name text[], s_state text[], s_attempt int[], s_max_attempts int[], s_parents int[], s_pending_parents int[],
  s_tolerated boolean[], s_retry_at timestamptz[], s_retry_due boolean[], s_hint float8[], s_last_attempted_at timestamptz[],
  s_failed_at timestamptz[])
language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select t.task_id, t.namespace, t.name, t.version, t.environment, t.template_id, t.state,
    t.paused_at is not null or exists (
      select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name)),
    t.context::text, t.priority, t.tags, t.initiator, t.source_system, t.reason, t.correlation_id, t.parent_correlation_id,
    t.created_at, t.paused_at, t.finished_at, s.*
  from (select u.task_id from unnest(p_task) u(task_id) group by 1 order by 1) k,
    lateral (select * from tasker.tasks q where q.task_id = k.task_id offset 0) t,
    lateral (
      select max(greatest(q.dispatched_at, q.started_at, q.finished_at)),
        array_agg(q.no), array_agg(q.name), array_agg(q.state), array_agg(q.attempt), array_agg(q.max_attempts),
        array_agg(cardinality(q.parents)), array_agg(q.pending_parents), array_agg(q.tolerated),
        array_agg(case q.state when 'waiting_for_retry' then q.wake_at end),
        array_agg(q.state = 'waiting_for_retry' and q.wake_at <= tasker.clock()),
        array_agg(case q.state when 'waiting_for_retry' then (q.error->>'delay_seconds')::float8 end),
        array_agg(greatest(q.dispatched_at, q.started_at)),
        array_agg(case when q.lease > 1 or q.error is not null or q.state = 'pending' and q.lease > 0 then (
          select a.finished_at from tasker.attempts a
          where a.task_id = q.task_id and a.no = q.no and a.applied and a.outcome = 'failure' order by a.lease desc limit 1) end)
      from (select * from tasker.steps p where p.task_id = t.task_id order by p.no) q) s;
end $$;

-- What explains why a task and its steps are where they are. One row, or none if the task does not exist; everything in it is of one time.
--   ended_*: who ended it, if its steps did not · pause_*: the pauses in force · entry_*: its open DLQ entries
--   lifecycle: the thresholds of the template of a running task; null without any. Only with them: the columns of lifecycle_facts, the time
--     now in milliseconds, and entered_*: the entries that were opened because it was stale
--   batch_*: the batches with fewer places than workers
--   open_*: for every first number of a position how many of its steps are not done; a tolerated failure counts as done
--   s_*: at most p_limit of the steps that are neither complete nor resolved: those that hold up others before those that wait for them
-- Reads each step of the task once, of the listed ones also what is stored out of line. A CASE, so that no plan walks the index of all
-- pending entries.
create function tasker.explain_v1(p_task uuid, p_limit int) returns table (
  now timestamptz, state text, template_id uuid, environment text, namespace text, name text, created_at timestamptz,
  finished_at timestamptz, total_steps int, active_steps int, failed_steps int, ended_by text, ended_reason text,
  pause_of text[], pause_since timestamptz[], pause_by text[], pause_reason text[],
  entry_no int[], entry_reason text[], entry_detail text[], entry_since timestamptz[],
  lifecycle text, now_ms bigint, begun_ms bigint, waiting_no int, waiting_lease int, waiting_ms bigint, process_no int, process_lease int,
  process_ms bigint, retry_no int, retry_lease int, retry_ms bigint, is_paused boolean, pauses_from bigint[], pauses_to bigint[],
  entered_no int[], entered_lease int[], entered_detail text[], entered_ms bigint[],
  batch_no int[], batch_parallelism int[], batch_open boolean[], open_no int[], open_steps int[], tolerated bigint,
  s_no int[], s_name text[], s_state text[], s_attempt int[], s_max_attempts int[], s_parents int[], s_pending_parents int[],
  s_tolerated boolean[], s_awaits_callback boolean[], s_wake_at timestamptz[], s_held_at timestamptz[], s_dispatched_at timestamptz[],
  s_started_at timestamptz[], s_resends int[], s_losses int[], s_checkpoint text[], s_error_type text[], s_message text[],
  s_hint float8[])
language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with unfinished as materialized (
    select s.no, s.tolerated, s.wake_at, case
        when s.tolerated then 5
        when s.state = 'error' then 0
        when s.state = 'cancelled' then 1
        when s.state <> 'pending' or s.wake_at is not null then 2
        when s.no & 16383 > 0 then 3
        else 4 end as rank
    from tasker.steps s where s.task_id = p_task and s.state not in ('complete', 'resolved_manually')
  ), listed as materialized (
    select u.no, row_number() over (order by u.rank, u.wake_at, u.no) as place from unfinished u order by u.rank, u.wake_at, u.no limit p_limit
  )
  select tasker.clock(), t.state, t.template_id, t.environment, t.namespace, t.name, t.created_at, t.finished_at, t.total_steps,
    t.active_steps, t.failed_steps, a.actor, a.reason, p.*, e.*, w.lifecycle::text, tasker.epoch_ms(tasker.clock()), f.*, d.*, b.*, o.*,
    c.tolerated, s.*
  from (select * from tasker.tasks q where q.task_id = p_task offset 0) t
    left join lateral (select l.action, l.actor, l.reason from tasker.audit_log l
      where l.task_id = t.task_id and l.action in ('finish', 'cancel_task', 'resolve_task', 'expire_task') and l.to_state = t.state
      order by l.created_at desc limit 1) a on a.action <> 'finish'
    left join lateral (select q.lifecycle from tasker.templates q
      where q.template_id = t.template_id and q.lifecycle is not null and t.state = 'running' offset 0) w on true
    left join lateral (select q.* from tasker.lifecycle_facts(t.task_id) q where w.lifecycle is not null) f on true,
    lateral (select array_agg(q.no), array_agg(q.lease), array_agg(q.reason_detail), array_agg(tasker.epoch_ms(q.created_at))
      from tasker.dlq_entries q where q.task_id = t.task_id and q.reason = 'staleness_timeout' and w.lifecycle is not null) d,
    lateral (select array_agg(q.what), array_agg(q.since), array_agg(q.actor), array_agg(q.reason) from (
      select 'task' as what, t.paused_at as since, l.actor, l.reason from (select) one left join lateral (
        select l.actor, l.reason from tasker.audit_log l where l.task_id = t.task_id and l.action = 'pause_task'
        order by l.created_at desc limit 1) l on true
      where t.paused_at is not null
      union all
      select case q.template when '' then 'namespace' else 'template' end, q.created_at, q.actor, q.reason
      from tasker.pauses q where q.namespace = t.namespace and q.template in ('', t.name)) q) p,
    lateral (select array_agg(q.no), array_agg(q.reason), array_agg(q.reason_detail), array_agg(q.created_at)
      from tasker.dlq_entries q where q.task_id = t.task_id and case when q.status = 'pending' then true end) e,
    lateral (select array_agg(q.no), array_agg(q.parallelism), array_agg(q.open) from tasker.batches q where q.task_id = t.task_id) b,
    lateral (select array_agg(q.no), array_agg(q.steps) from (
      select u.no & ~16383 as no, count(*)::int as steps from unfinished u where not u.tolerated group by 1) q) o,
    lateral (select count(*) as tolerated from unfinished u where u.tolerated) c,
    lateral (select array_agg(q.no), array_agg(q.name), array_agg(q.state), array_agg(q.attempt), array_agg(q.max_attempts),
      array_agg(cardinality(q.parents)), array_agg(q.pending_parents), array_agg(q.tolerated), array_agg(q.awaits_callback),
      array_agg(q.wake_at), array_agg(q.held_at), array_agg(q.dispatched_at), array_agg(q.started_at), array_agg(q.resends),
      array_agg(q.losses), array_agg(q.checkpoint->>'items_processed'), array_agg(q.error->>'error_type'),
      array_agg(left(q.error->>'message', 200)), array_agg((q.error->>'delay_seconds')::float8)
      from (select q.* from listed l, lateral (
        select * from tasker.steps q where q.task_id = t.task_id and q.no = l.no offset 0) q order by l.place) q) s;
end $$;
