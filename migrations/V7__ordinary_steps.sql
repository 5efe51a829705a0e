-- The functions for ordinary calls: what submit_v1 and complete_v1 do with one task or with successes only, in fewer plan nodes and with
-- fewer look-ups. What they do not handle they pass on to the general functions. The rows and the answers are the same, which
-- `tests/same_rows` checks; so a change of one of them is a change of all.
-- What a message carries is said three times: here twice, and in load_run_steps_v1, to which many or large results are left: more than 64,
-- or one above a fraction of the limit. So those that are put together here never exceed the limit, and a batch holds little that it drops.

-- A step that was just dispatched, with what its message needs.
create type tasker.dispatched as (
  task_id uuid, no int, lease int, attempt int, max_attempts int, inputs json, checkpoint json, parents int[], further_ancestors int[]
);

-- The results of a message whose ancestors are many or large. Planned only when it is first called.
create function tasker.large_results(p_task uuid, p_no int, p_max_bytes bigint) returns text language plpgsql stable as $$
begin
  return (select c.results from tasker.load_run_steps_v1(array[p_task], array[p_no], p_max_bytes) c where c.kind = 'run');
end $$;

-- Inserts one task, as submit_v1 does. The arguments are the same, without the indexes of templates.
create function tasker.submit_one_v1(
  t_task uuid, t_identity bytea, t_context text, t_priority int, t_tags text, t_initiator text, t_source_system text, t_reason text,
  t_correlation uuid, t_parent_correlation uuid, t_traceparent text,
  w_template_id uuid, w_namespace text, w_name text, w_version text, w_environment text, w_roots int, w_total int,
  s_no int[], s_name text[], s_max_attempts int[], s_parents text[], s_children text[], s_further text[], p_send_ms bigint)
returns table (idx int, task_id uuid, state text, created boolean, dispatched boolean, created_at timestamptz)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  held boolean := exists (select from tasker.pauses p where p.namespace = w_namespace and p.template in ('', w_name));
begin
  idx := 1;
  if held then
    held := tasker.is_paused(w_namespace, w_name);
  end if;
  insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, state, active_steps, failed_steps, total_steps,
    identity, context, priority, tags, initiator, source_system, reason, correlation_id, parent_correlation_id, traceparent, created_at,
    finished_at)
  values (t_task, w_template_id, w_namespace, w_name, w_version, w_environment, case w_total when 0 then 'complete' else 'running' end,
    w_roots, 0, w_total, t_identity, t_context::json, t_priority, t_tags::text[], t_initiator, t_source_system, t_reason, t_correlation,
    t_parent_correlation, t_traceparent, tasker.clock(), case w_total when 0 then tasker.clock() end)
  on conflict do nothing
  returning task_id, state, true, not held, created_at into task_id, state, created, dispatched, created_at;
  if not found then
    -- A later statement, so that it sees the row of a concurrent submit with the same identity that this one waited for.
    return query (select 1, q.task_id, q.state, false, false, q.created_at from tasker.tasks q where q.task_id = t_task
      union all select 1, q.task_id, q.state, false, false, q.created_at from tasker.tasks q where q.identity = t_identity limit 1);
    return;
  end if;
  insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children,
    further_ancestors, wake_at, held_at, dispatched_at)
  select t_task, s_no[i], s_name[i], case when s.run then 'enqueued' else 'pending' end, s.run::int, s.run::int, s_max_attempts[i],
    cardinality(s_parents[i]::int[]), s_parents[i]::int[], s_children[i]::int[], s_further[i]::int[],
    case when s.root then tasker.clock_after(case when held then tasker.hold_ms() else p_send_ms end) end,
    case when s.root and held then tasker.clock() end,
    case when s.run then tasker.clock() end
  from generate_series(1, cardinality(s_no)) i,
    lateral (select s_parents[i] = '{}' as root, s_parents[i] = '{}' and not held as run) s;
  if p_send_ms is null and w_total > 0 then
    insert into tasker.in_process (task_id) values (t_task);
  end if;
  return next;
end $$;

-- Applies one success, as complete_v1 does.
create function tasker.complete_one_v1(
  p_task uuid, p_no int, p_lease int, p_attempt int, p_body text, p_metadata text, p_digest bigint, p_worker text,
  p_duration_ms bigint, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
  answer tasker.change; header tasker.change; d tasker.dispatched; own_name text; below int[]; shared json; held boolean;
  child int; pending int; ready int := 0; largest int; left_active int;
begin
  update tasker.steps s set
    state = 'complete', tolerated = false, awaits_callback = false, result = p_body::json, result_bytes = octet_length(p_body),
    error = null, checkpoint = null, digest = p_digest, duration_ms = p_duration_ms, worker = p_worker, metadata = p_metadata::json,
    finished_at = tasker.clock(), wake_at = null
  where s.task_id = p_task and s.no = p_no and s.lease = p_lease and s.state in ('enqueued', 'in_progress')
  returning s.name, s.children into own_name, below;
  if not found then
    return query select * from tasker.complete_v1(array[p_task], array[p_no], array[p_lease], array[p_attempt], array['complete'],
      array[0::bigint], array[p_body], array[null::text], array[p_metadata], array[p_digest], array[p_worker], array[p_duration_ms],
      array[false], p_send_ms, p_bodies, p_max_bytes);
    return;
  end if;
  answer.kind := 'accepted';
  answer.idx := 1;
  return next answer;

  if below <> '{}' then
    select t.template_id, t.environment, t.correlation_id, t.traceparent, t.context,
      t.paused_at is not null or exists (select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name))
    into header.template_id, header.environment, header.correlation_id, header.traceparent, shared, held
    from tasker.tasks t where t.task_id = p_task;
    if held or cardinality(below) > least(3, p_bodies) then
      return query select * from tasker.advance_v1(array[p_task], array[-1], array[0], array_fill(p_task, array[cardinality(below)]),
        below, array_fill(1, array[cardinality(below)]), null, p_send_ms, p_bodies, p_max_bytes);
      return;
    end if;
    -- One by one, because they are few: an update of a row that is known by its key is the cheapest statement that there is.
    foreach child in array below loop
      update tasker.steps s set
        pending_parents = s.pending_parents - 1,
        state = case s.pending_parents when 1 then 'enqueued' else s.state end,
        lease = case s.pending_parents when 1 then s.lease + 1 else s.lease end,
        attempt = case s.pending_parents when 1 then greatest(s.attempt, 1) else s.attempt end,
        resends = 0,
        started_at = null,
        dispatched_at = case s.pending_parents when 1 then tasker.clock() else s.dispatched_at end,
        wake_at = case s.pending_parents when 1 then tasker.clock_after(p_send_ms) end
      where s.task_id = p_task and s.no = child and s.state = 'pending'
      returning s.pending_parents, s.lease, s.attempt, s.max_attempts, s.inputs, s.checkpoint, s.parents, s.further_ancestors
      into pending, d.lease, d.attempt, d.max_attempts, d.inputs, d.checkpoint, d.parents, d.further_ancestors;
      continue when pending is distinct from 0;
      ready := ready + 1;
      if ready = 1 then
        header.kind := 'task';
        header.task_id := p_task;
        header.context := shared::text;
        return next header;
      end if;
      -- The parents as the update returned them: the child may have more than when its task was submitted.
      if d.parents = array[p_no] and d.further_ancestors = '{}' then
        answer.result_bytes := octet_length(p_body);
        answer.results := case when answer.result_bytes <= p_max_bytes then '{ ' || to_json(own_name) || ' : ' || p_body || ' }' end;
      else
        -- In a statement after the update: one that waited for a lock would miss the result of another parent.
        select coalesce(sum(p.result_bytes) filter (where p.no = any (d.parents)), 0), max(p.result_bytes),
          json_object_agg(p.name, p.result) filter (where p.result_bytes <= p_max_bytes / 64),
          json_object_agg(p.name, tasker.brief(p.error)) filter (where p.tolerated)
        into answer.result_bytes, largest, answer.results, answer.errors
        from unnest((d.parents || d.further_ancestors)[:64]) u(no),
          lateral (select * from tasker.steps q where q.task_id = p_task and q.no = u.no offset 0) p;
        if cardinality(d.parents || d.further_ancestors) > 64 or largest > p_max_bytes / 64 then
          return query select l.* from tasker.load_run_steps_v1(array[p_task], array[child], p_max_bytes) l where l.kind = 'run';
          continue;
        end if;
      end if;
      answer.kind := 'run';
      answer.idx := null;
      answer.task_id := p_task;
      answer.no := child;
      answer.lease := d.lease;
      answer.attempt := d.attempt;
      answer.max_attempts := d.max_attempts;
      answer.resends := 0;
      answer.inputs := d.inputs::text;
      answer.checkpoint := d.checkpoint::text;
      return next answer;
      answer.errors := null;
    end loop;
  end if;

  -- If exactly one child became ready, the counters do not change.
  if ready <> 1 then
    answer := null;
    update tasker.tasks t set
      active_steps = t.active_steps + ready - 1,
      state = case when t.active_steps + ready > 1 then 'running' when t.failed_steps > 0 then 'error' else 'complete' end,
      finished_at = case when t.active_steps + ready > 1 then null else tasker.clock() end
    where t.task_id = p_task and t.state = 'running'
    returning t.state, t.active_steps into answer.state, left_active;
    if left_active = 0 then
      delete from tasker.in_process p where p.task_id = p_task;
      insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
      values (p_task, 'finish', 'tasker', case answer.state when 'error' then 'no step can make progress' else 'every step is done' end,
        'running', answer.state, tasker.clock());
      if answer.state = 'error' then
        perform tasker.enter_failed(array[p_task]);
      end if;
      answer.kind := 'finished';
      answer.task_id := p_task;
      return next answer;
    end if;
  end if;
end $$;

-- Applies successes, as complete_v1 does. Looks up each row once.
create function tasker.complete_many_v1(
  p_task uuid[], p_no int[], p_lease int[], p_attempt int[], p_body text[], p_metadata text[], p_digest bigint[], p_worker text[],
  p_duration_ms bigint[], p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  answer tasker.change; ok int[]; d_task uuid[]; k_task uuid[]; k_no int[]; k_n int[]; rest int[];
  ready tasker.dispatched[]; r_task uuid[]; f_task uuid[]; f_state text[];
begin
  with own as (
    update tasker.steps s set
      state = 'complete', tolerated = false, awaits_callback = false, result = p_body[i]::json, result_bytes = octet_length(p_body[i]),
      error = null, checkpoint = null, digest = p_digest[i], duration_ms = p_duration_ms[i], worker = p_worker[i],
      metadata = p_metadata[i]::json, finished_at = tasker.clock(), wake_at = null
    from generate_series(1, cardinality(p_task)) i
    where s.task_id = any (array[p_task[i]]) and s.no = p_no[i] and s.lease = p_lease[i] and s.state in ('enqueued', 'in_progress')
    returning i, s.task_id, s.children
  ), ended as (
    select array_agg(o.i) as idx, array_agg(o.task_id) as task_id from own o
  ), kids as (
    select array_agg(k.task_id) as task_id, array_agg(k.no) as no, array_agg(k.n) as n
    from (select o.task_id, u.no, count(*)::int as n from own o, unnest(o.children) u(no) group by 1, 2 order by 1, 2) k
  )
  select e.idx, e.task_id, k.task_id, k.no, k.n into ok, d_task, k_task, k_no, k_n from ended e, kids k;

  -- Before any child is locked.
  if coalesce(cardinality(ok), 0) < cardinality(p_task) then
    rest := array(select i from generate_series(1, cardinality(p_task)) i where not i = any (coalesce(ok, '{}')) order by i);
    for answer in select a.* from (
        select array_agg(p_task[i]) as task, array_agg(p_no[i]) as no, array_agg(p_lease[i]) as lease, array_agg(p_attempt[i]) as attempt,
          array_agg('complete'::text) as verdict, array_agg(0::bigint) as delay_ms, array_agg(p_body[i]) as body,
          array_agg(null::text) as error, array_agg(p_metadata[i]) as metadata, array_agg(p_digest[i]) as digest,
          array_agg(p_worker[i]) as worker, array_agg(p_duration_ms[i]) as duration_ms, array_agg(false) as if_due
        from unnest(rest) i) r,
      tasker.complete_v1(r.task, r.no, r.lease, r.attempt, r.verdict, r.delay_ms, r.body, r.error, r.metadata, r.digest, r.worker,
        r.duration_ms, r.if_due, p_send_ms, p_bodies, p_max_bytes) a
    loop
      answer.idx := rest[answer.idx];
      return next answer;
    end loop;
  end if;
  if ok is null then
    return;
  end if;
  return query select c.* from unnest(ok) u(idx), tasker.change_row('accepted', idx => u.idx) c;

  if k_task is not null then
    -- Two nodes for the whole batch. While anything is paused, all batches take the general way, which asks for each task.
    if exists (select from tasker.pauses) or exists (select from tasker.tasks t where t.paused_at is not null) then
      return query select * from tasker.advance_v1(d_task, array_fill(-1, array[cardinality(d_task)]),
        array_fill(0, array[cardinality(d_task)]), k_task, k_no, k_n, null, p_send_ms, p_bodies, p_max_bytes);
      return;
    end if;
    with child as (
      update tasker.steps s set
        pending_parents = s.pending_parents - k_n[i],
        state = case s.pending_parents when k_n[i] then 'enqueued' else s.state end,
        lease = case s.pending_parents when k_n[i] then s.lease + 1 else s.lease end,
        attempt = case s.pending_parents when k_n[i] then greatest(s.attempt, 1) else s.attempt end,
        resends = 0,
        started_at = null,
        dispatched_at = case s.pending_parents when k_n[i] then tasker.clock() else s.dispatched_at end,
        wake_at = case s.pending_parents when k_n[i] then tasker.clock_after(p_send_ms) end
      from generate_series(1, cardinality(k_task)) i
      where s.task_id = any (array[k_task[i]]) and s.no = k_no[i] and s.state = 'pending'
      returning s.pending_parents, s.task_id, (s.task_id, s.no, s.lease, s.attempt, s.max_attempts, s.inputs, s.checkpoint, s.parents,
        s.further_ancestors)::tasker.dispatched as d)
    select array_agg(h.d), array_agg(h.task_id) into ready, r_task from child h where h.pending_parents = 0;
  end if;

  -- If one step of each task finished and one became ready, the counters do not change.
  if d_task is distinct from r_task then
    with finished as (
      update tasker.tasks t set
        active_steps = t.active_steps + x.n,
        state = case when t.active_steps + x.n > 0 then 'running' when t.failed_steps > 0 then 'error' else 'complete' end,
        finished_at = case when t.active_steps + x.n > 0 then null else tasker.clock() end
      from (select u.task_id, sum(case when u.place <= cardinality(d_task) then -1 else 1 end)::int as n
            from unnest(d_task || r_task) with ordinality u(task_id, place)
            group by u.task_id having sum(case when u.place <= cardinality(d_task) then -1 else 1 end) <> 0 order by u.task_id) x
      where t.task_id = any (array[x.task_id]) and t.state = 'running'
      returning t.task_id, t.state, t.active_steps
    ), unnamed as (
      delete from tasker.in_process p using finished f
      where p.task_id = any (array[f.task_id]) and f.active_steps = 0
    ), audited as (
      insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
      select f.task_id, 'finish', 'tasker', case f.state when 'error' then 'no step can make progress' else 'every step is done' end,
        'running', f.state, tasker.clock() from finished f where f.active_steps = 0
    )
    select array_agg(f.task_id), array_agg(f.state) into f_task, f_state from finished f where f.active_steps = 0;
    if f_task is not null then
      if 'error' = any (f_state) then
        perform tasker.enter_failed(array(select u.task_id from unnest(f_task, f_state) u(task_id, state) where u.state = 'error'));
      end if;
      return query select c.* from unnest(f_task, f_state) u(task_id, state),
        tasker.change_row('finished', task_id => u.task_id, state => u.state) c;
    end if;
  end if;

  -- Read in a later statement: one that waited for a lock would miss the result of another parent.
  if ready is not null then
    return query
      select c.* from generate_series(1, least(cardinality(r_task), p_bodies)) i,
        lateral (select q.task_id, q.template_id, q.environment, q.correlation_id, q.traceparent, q.context
          from tasker.tasks q where q.task_id = r_task[i] offset 0) t,
        tasker.change_row('task', task_id => t.task_id, template_id => t.template_id, environment => t.environment,
          correlation_id => t.correlation_id, traceparent => t.traceparent, context => t.context::text) c
      where r_task[i] is distinct from r_task[i - 1]
      union all
      select c.* from (
          select r.*, coalesce(a.bytes, 0) as bytes, a.results, a.errors,
            cardinality(r.parents || r.further_ancestors) > 64 or a.largest > p_max_bytes / 1024 as large,
            sum(least(coalesce(a.bytes, 0), p_max_bytes)) over (rows unbounded preceding) <= 4 * p_max_bytes as fits
          from unnest(ready[:p_bodies]) r,
            lateral (select sum(p.result_bytes) filter (where p.no = any (r.parents)) as bytes, max(p.result_bytes) as largest,
                json_object_agg(p.name, p.result) filter (where u.place <= 64 and p.result_bytes <= p_max_bytes / 1024)::text as results,
                json_object_agg(p.name, tasker.brief(p.error)) filter (where p.tolerated)::text as errors
              from unnest(r.parents || r.further_ancestors) with ordinality u(no, place),
                lateral (select * from tasker.steps q where q.task_id = r.task_id and q.no = u.no offset 0) p) a) s,
        tasker.change_row(case when s.fits then 'run' else 'run_key' end, task_id => s.task_id, no => s.no, lease => s.lease,
          attempt => s.attempt, max_attempts => s.max_attempts, resends => 0,
          results => case when not s.fits then null when s.large then tasker.large_results(s.task_id, s.no, p_max_bytes) else s.results end,
          result_bytes => s.bytes, inputs => case when s.fits then s.inputs::text end,
          checkpoint => case when s.fits then s.checkpoint::text end, errors => case when s.fits then s.errors end) c;
    if cardinality(ready) > p_bodies then
      return query select c.* from unnest(ready[p_bodies + 1:]) u,
        tasker.change_row('run_key', task_id => u.task_id, no => u.no, lease => u.lease) c;
    end if;
  end if;
end $$;
