-- Steps that come while a task runs: what decisions and batchable steps make, and the places of batches.
--
-- Which steps exist is a pure function of the template and of what was decided so far. Rust computes the difference that a decision makes,
-- and expand_v1 applies it under locks: first the step with the lowest number of the task, which whoever adds or removes steps locks, so
-- that one expansion of a task comes after the other; then the parents of what is made, whose state is read afterwards.
-- A step's `children` are the template's, whether they exist or not: no parent's row is rewritten because it got a child, and the
-- count-down of a child that does not exist is a look-up without a row.
-- The number of a batch worker is its pattern's and 1 to 16,383.

-- Gives the places of workers that ended to those that wait, the lowest first. Returns the workers that got one: each has one open parent
-- less. Locks the rows of the batches, and then the workers that wait, whose numbers are not ascending to those of other batches; but nobody
-- who holds a waiting worker waits for one that ended.
create function tasker.pass_places(p_task uuid[], p_no int[], p_ended int default 1) returns table (task_id uuid, no int)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  batch record; picked int[];
begin
  for batch in
    select b.task_id, b.no, b.workers, b.next, b.open, b.parallelism - (b.running - k.ended) as free, k.ended
    from (select u.task_id, u.no, p_ended * count(*)::int as ended from unnest(p_task, p_no) u(task_id, no) group by 1, 2 order by 1, 2) k,
      lateral (select * from tasker.batches q where q.task_id = k.task_id and q.no = k.no for update) b
  loop
    picked := array(select s.no from tasker.steps s
      where batch.open and s.task_id = batch.task_id and s.no > batch.next and s.no <= batch.no + batch.workers and s.state = 'pending'
        and s.pending_parents > 0
      order by s.no limit greatest(batch.free, 0) for update);
    update tasker.batches b set running = b.running - batch.ended + cardinality(picked),
      next = coalesce(picked[cardinality(picked)], b.next)
    where b.task_id = batch.task_id and b.no = batch.no;
    return query select batch.task_id, u.no from unnest(picked) u(no);
  end loop;
end $$;

-- Locks the first step of a task, which whoever adds or removes steps or must see all of them locks before any other, and then others.
-- A batch's row is locked after its workers and before what follows them, as complete_v1 does.
create function tasker.lock_steps(p_task uuid, p_no int[], p_patterns int[] default '{}') returns void
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  pattern int; after int := 0;
begin
  perform from tasker.steps s where s.task_id = p_task order by s.no limit 1 for update;
  foreach pattern in array (select coalesce(array_agg(distinct u.no order by u.no), '{}') from unnest(p_patterns) u(no)) || 268435456 loop
    perform from (select distinct u.no from unnest(p_no) u(no) where u.no >= after and u.no < pattern + 16384 order by 1) k,
      lateral (select from tasker.steps q where q.task_id = p_task and q.no = k.no for update) s;
    perform from tasker.batches b where b.task_id = p_task and b.no = pattern for update;
    after := pattern + 16384;
  end loop;
end $$;

-- Why a growth cannot be applied: 'again' or 'too_many', or no row. The caller locked what the growth names.
create function tasker.refuse_growth(p_task uuid, p_growth json) returns setof tasker.change
language plpgsql rows 1
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  seen json; total int;
begin
  select coalesce(json_agg(json_build_array(q.no, q.lease) order by q.no), '[]') into seen
  from json_array_elements_text(p_growth->'others') k(no),
    lateral (select * from tasker.steps s where s.task_id = p_task and s.no = k.no::int and s.created is not null offset 0) q;
  if seen::jsonb <> (p_growth->'seen')::jsonb then
    return query select * from tasker.change_row('again');
    return;
  end if;
  select t.total_steps into total from tasker.tasks t where t.task_id = p_task;
  if total + json_array_length(p_growth->'made') + coalesce(json_array_length(p_growth->'workers'->'each'), 0)
      > (p_growth->>'most')::int then
    return query select * from tasker.change_row('too_many', ms => total::bigint);
  end if;
end $$;

-- Makes the steps that exist because a decision or batchable is done, counts down its other children, and moves the task on. The caller
-- locked what the growth names, and set the row of the decider. p_active, p_failed: the changes of the task's counters by the decider.
-- p_growth:
--   others, seen: the numbers of the other deciders of the template; [no, lease] of those that were done when the growth was planned
--   touched: the existing steps that are read or changed, with the decider
--   most: the steps that a task may have
--   created: as in `steps`
--   made: [{no, name, max_attempts, parents, children, further}]
--   edges: [{no, parents}], further parents of existing steps
--   workers: absent or {pattern, each: [{name, inputs}], max_attempts, parents, children, further, places}; places: how many of them run at
--     once, or null
create function tasker.grow(
  p_task uuid, p_children int[], p_active int, p_failed int, p_growth json, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  base int; held boolean; below int[]; ready int[]; made int;
  of_made json := p_growth->'made'; of_workers json := p_growth->'workers'; pattern int := (of_workers->>'pattern')::int;
  workers int := coalesce(json_array_length(of_workers->'each'), 0); places int := least((of_workers->>'places')::int, workers);
begin
  select t.lease_base, t.paused_at is not null or exists (
      select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name))
  into base, held from tasker.tasks t where t.task_id = p_task;
  if held then
    select t.paused_at is not null or tasker.is_paused(t.namespace, t.name) into held from tasker.tasks t where t.task_id = p_task;
  end if;

  -- Of a step that is made, the parents that are done are counted as they stand. Those that are not will count it down.
  with rows as materialized (
    select m.no, m.name, m.max_attempts, m.parents, m.children, m.further, null::json as inputs,
      cardinality(m.parents) - (select count(*)::int from unnest(m.parents) k(no), lateral (
        select from tasker.steps q where q.task_id = p_task and q.no = k.no
          and (q.state in ('complete', 'resolved_manually') or q.tolerated) offset 0) done) as open
    from json_to_recordset(of_made)
      m(no int, name text, max_attempts int, parents int[], children int[], further int[])
    union all
    select pattern + u.place::int, u.name, w.max_attempts, w.parents, w.children, w.further, u.inputs, (u.place > places)::int
    from json_to_record(of_workers) w(max_attempts int, parents int[], children int[], further int[]),
      rows from (json_to_recordset(of_workers->'each') as (name text, inputs json)) with ordinality u(name, inputs, place)
  ), new as (
    insert into tasker.steps (task_id, no, name, max_attempts, parents, children, further_ancestors, inputs, pending_parents, state,
      lease, attempt, dispatched_at, wake_at, held_at)
    select p_task, r.no, r.name, r.max_attempts, r.parents, r.children, r.further, r.inputs, r.open,
      case when r.open = 0 and not held then 'enqueued' else 'pending' end,
      base + (r.open = 0 and not held)::int, (r.open = 0 and not held)::int,
      case when r.open = 0 and not held then tasker.clock() end,
      case when r.open = 0 then tasker.clock_after(case when held then tasker.hold_ms() else p_send_ms end) end,
      case when r.open = 0 and held then tasker.clock() end
    from rows r
    returning no, pending_parents
  )
  select coalesce(array_agg(n.no order by n.no) filter (where n.pending_parents = 0), '{}'), count(*) into ready, made from new n;

  -- With a place each, nobody waits for one.
  if places < workers then
    insert into tasker.batches (task_id, no, workers, parallelism, next, running)
    values (p_task, pattern, workers, places, pattern + places, places);
  end if;

  update tasker.steps s set parents = s.parents || k.parents, pending_parents = s.pending_parents + k.open
  from (select p_task as task_id, e.no, e.parents, (select count(*)::int from unnest(e.parents) p(no), lateral (
          select from tasker.steps q where q.task_id = p_task and q.no = p.no
            and not (q.state in ('complete', 'resolved_manually') or q.tolerated) offset 0) open) as open
        from json_to_recordset(p_growth->'edges') e(no int, parents int[]) offset 0) k
  where s.task_id = any (array[k.task_id]) and s.no = k.no;

  -- What was made has counted the decider already.
  below := array(select u.no from unnest(p_children) u(no)
    except select m.no from json_to_recordset(of_made) m(no int) order by 1);
  return query select * from tasker.advance_v1(array[p_task], array[cardinality(ready) + p_active], array[p_failed],
    case when below <> '{}' then array_fill(p_task, array[cardinality(below)]) end, below,
    array_fill(1, array[cardinality(below)]), null, p_send_ms, p_bodies, p_max_bytes);
  if made > 0 then
    update tasker.tasks t set total_steps = t.total_steps + made where t.task_id = p_task;
  end if;

  if ready <> '{}' and not held then
    return query select * from tasker.load_run_steps_v1(array_fill(p_task, array[least(cardinality(ready), p_bodies)]),
      ready[:p_bodies], p_max_bytes);
    return query select c.* from unnest(ready[p_bodies + 1:]) u(no),
      tasker.change_row('run_key', task_id => p_task, no => u.no, lease => base + 1) c;
  end if;
end $$;

-- Applies one success of a decision or a batchable, as complete_v1 does, and makes the steps that exist because of it. The first row may be
-- 'again' or 'too_many'; then nothing was done.
create function tasker.expand_v1(
  p_task uuid, p_no int, p_lease int, p_attempt int, p_body text, p_metadata text, p_digest bigint, p_worker text,
  p_duration_ms bigint, p_growth json, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  below int[];
begin
  perform tasker.lock_steps(p_task, array(select u.no::int from json_array_elements_text(p_growth->'touched') u(no)));
  -- Before the growth is looked at, so that an outcome that was applied or is late makes nothing.
  if not exists (select from tasker.steps s where s.task_id = p_task and s.no = p_no and s.lease = p_lease
      and s.state in ('enqueued', 'in_progress')) then
    return query select * from tasker.complete_v1(array[p_task], array[p_no], array[p_lease], array[p_attempt], array['complete'],
      array[0::bigint], array[p_body], array[null::text], array[p_metadata], array[p_digest], array[p_worker], array[p_duration_ms],
      array[false], p_send_ms, p_bodies, p_max_bytes);
    return;
  end if;
  return query select * from tasker.refuse_growth(p_task, p_growth);
  if found then
    return;
  end if;
  update tasker.steps s set
    state = 'complete', tolerated = false, awaits_callback = false, result = p_body::json, result_bytes = octet_length(p_body),
    error = null, checkpoint = null, digest = p_digest, duration_ms = p_duration_ms, worker = p_worker,
    metadata = p_metadata::json, finished_at = tasker.clock(), wake_at = null,
    created = array(select u.no::int from json_array_elements_text(p_growth->'created') with ordinality u(no, place) order by u.place)
  where s.task_id = p_task and s.no = p_no
  returning s.children into below;
  return query select * from tasker.change_row('accepted', idx => 1);
  return query select * from tasker.grow(p_task, below, -1, 0, p_growth, p_send_ms, p_bodies, p_max_bytes);
end $$;

-- Applies one failure of a batch worker that ends its batch, as complete_v1 does: cancels the workers that have a place, and lets no other
-- have one. Those that wait for a place stay pending.
create function tasker.fail_batch_v1(
  p_task uuid, p_no int, p_lease int, p_attempt int, p_error text, p_metadata text, p_digest bigint, p_worker text,
  p_duration_ms bigint, p_if_due boolean, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  pattern int := p_no & ~16383; cancelled int[]; ended tasker.change[];
begin
  perform from tasker.steps s where s.task_id = p_task order by s.no limit 1 for update;
  perform from tasker.steps s where s.task_id = p_task and s.no > pattern and s.no < pattern + 16384 and s.finished_at is null
  order by s.no for update;
  perform from tasker.batches b where b.task_id = p_task and b.no = pattern for update;
  if exists (select from tasker.steps s where s.task_id = p_task and s.no = p_no and s.lease = p_lease
      and s.state in ('enqueued', 'in_progress') and (not p_if_due or s.wake_at <= tasker.clock())) then
    update tasker.batches b set open = false where b.task_id = p_task and b.no = pattern;
    with c as (
      update tasker.steps s set state = 'cancelled', lease = s.lease + 1, wake_at = null, held_at = null, awaits_callback = false,
        finished_at = tasker.clock()
      where s.task_id = p_task and s.no > pattern and s.no < pattern + 16384 and s.no <> p_no
        and (s.state in ('enqueued', 'in_progress', 'waiting_for_retry') or s.state = 'pending' and s.wake_at is not null)
      returning s.no, s.name, s.lease - 1 as lease)
    select array_agg(c.no), array_agg(e) into cancelled, ended from c,
      tasker.change_row('effect', task_id => p_task, no => c.no, name => c.name, lease => c.lease, state => 'cancelled') e;
    update tasker.batches b set running = b.running - coalesce(cardinality(cancelled), 0)
    where b.task_id = p_task and b.no = pattern and cancelled is not null;
  end if;
  return query select * from tasker.complete_v1(array[p_task], array[p_no], array[p_lease], array[p_attempt], array['error'],
    array[0::bigint], array[null::text], array[p_error], array[p_metadata], array[p_digest], array[p_worker], array[p_duration_ms],
    array[p_if_due], p_send_ms, p_bodies, p_max_bytes);
  if cancelled is not null then
    return query select * from unnest(ended);
    return query select * from tasker.advance_v1(array[p_task], array[-cardinality(cancelled)], array[cardinality(cancelled)],
      null, null, null, null, p_send_ms, p_bodies, p_max_bytes);
  end if;
end $$;
