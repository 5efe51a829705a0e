-- The most frequent read: tasks with the state of each step. A function, because planning the statement takes longer than running it.

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
