-- Tasks that take longer than their template allows, and the recovery of what was given up.
--
-- Nothing is written for a task that may become stale, and no index serves only this: every running task has a step with a `wake_at`, or is
-- named in `in_process`. Once a minute the sweep looks at these, and at a part of all tasks, for those that a defect hides from both. Of the
-- ones that are old enough `lifecycle_facts` reads what decides; Rust decides by the template; the functions below act on what it decided.
-- What a task with wrong rows waits for would never come, so these are repaired first.

-- Those of these tasks that run and are older than one of the thresholds of their template; p_young: also the younger ones.
create function tasker.watched(p_task uuid[], p_young boolean default false) returns uuid[]
language sql stable
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
  select coalesce(array_agg(t.task_id order by t.task_id), '{}') from (select distinct u.task_id from unnest(p_task) u(task_id)) k,
    lateral (select q.* from tasker.tasks q where q.task_id = k.task_id and q.state = 'running' offset 0) t,
    lateral (select q.lifecycle from tasker.templates q where q.template_id = t.template_id and q.lifecycle is not null offset 0) w
  where p_young or extract(epoch from tasker.clock() - t.created_at) >= 60 * least(
    (w.lifecycle->>'max_duration_minutes')::bigint, (w.lifecycle->>'max_waiting_for_dependencies_minutes')::bigint,
    (w.lifecycle->>'max_waiting_for_retry_minutes')::bigint, (w.lifecycle->>'max_steps_in_process_minutes')::bigint)
$$;

create function tasker.epoch_ms(p_time timestamptz) returns bigint language sql immutable as
  'select round(extract(epoch from p_time) * 1000)::bigint';

-- What decides whether a running task is stale. All times are milliseconds since 1970.
--   begun_ms        when it was created, or an operator or a repair last set it going
--   waiting_…       the first step that waits for parents, since a step of the task last ended
--   process_…       the step that has been dispatched for longest, without those that await a callback
--   retry_…         the step that has waited for its retry for longest
--   is_paused       its time stands still
--   pauses_from/to  the pauses of the task, its template and its namespace that ended since then
create type tasker.lifecycle_facts as (
  begun_ms bigint, waiting_no int, waiting_lease int, waiting_ms bigint, process_no int, process_lease int, process_ms bigint, retry_no int, retry_lease int,
  retry_ms bigint, is_paused boolean, pauses_from bigint[], pauses_to bigint[]);

create function tasker.lifecycle_facts(p_task uuid) returns tasker.lifecycle_facts
language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  t tasker.tasks; begun timestamptz; facts tasker.lifecycle_facts;
begin
  select q.* into t from tasker.tasks q where q.task_id = p_task;
  select greatest(t.created_at, max(l.created_at)) into begun from tasker.audit_log l
  where l.task_id = p_task and l.action in ('retry_step', 'redo_step', 'resolve_step', 'reopen_task', 'repair_task');
  select s.no, s.lease into facts.waiting_no, facts.waiting_lease from tasker.steps s
  where s.task_id = p_task and s.state = 'pending' and s.wake_at is null order by s.no limit 1;
  select tasker.epoch_ms(greatest(max(s.finished_at), t.created_at)) into facts.waiting_ms from tasker.steps s where s.task_id = p_task;
  select s.no, s.lease, tasker.epoch_ms(s.dispatched_at) into facts.process_no, facts.process_lease, facts.process_ms
  from tasker.steps s where s.task_id = p_task and s.state in ('enqueued', 'in_progress') and not s.awaits_callback
  order by s.dispatched_at, s.no limit 1;
  select s.no, s.lease, tasker.epoch_ms(coalesce(a.finished_at, s.dispatched_at)) into facts.retry_no, facts.retry_lease, facts.retry_ms
  from tasker.steps s left join lateral (
    select q.finished_at from tasker.attempts q where q.task_id = s.task_id and q.no = s.no and q.lease = s.lease offset 0) a on true
  where s.task_id = p_task and s.state = 'waiting_for_retry' order by coalesce(a.finished_at, s.dispatched_at), s.no limit 1;
  facts.begun_ms := tasker.epoch_ms(begun);
  facts.is_paused := t.paused_at is not null or exists (
    select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name));
  select array_agg(tasker.epoch_ms(p.since)), array_agg(tasker.epoch_ms(p.until)) into facts.pauses_from, facts.pauses_to from (
    select q.created_at as since, q.resumed_at as until from tasker.past_pauses q
    where q.namespace = t.namespace and q.template in ('', t.name) and q.resumed_at > begun
    union all
    select q.created_at, q.next_at from (
      select l.created_at, l.action, lead(l.created_at) over (order by l.created_at) as next_at from tasker.audit_log l
      where l.task_id = p_task and l.action in ('pause_task', 'resume_task')) q
    where q.action = 'pause_task' and q.next_at > begun order by 1, 2) p;
  return facts;
end $$;

-- Whether a step may be a worker that waits for its place. Such a one has one open parent more, and only its batch knows when it gets it.
create function tasker.waits_for_place(p_task uuid, p_no int, p_held_at timestamptz) returns boolean language sql stable as $$
  select p_no & 16383 > 0 and p_held_at is null and exists (select from tasker.batches b where b.task_id = p_task and b.no = p_no & ~16383)
$$;

-- What is wrong in the rows of a running task, as sentences; none in a sound one. The repair under locks decides anew.
create function tasker.unsound(p_task uuid) returns text[]
language sql stable
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
  select array(
    select case p.open when 0 then format('step %s was ready and not dispatched', s.name)
      else format('step %s counted %s open parents instead of %s', s.name, s.pending_parents, p.open) end
    from tasker.steps s, tasker.open_parents(p_task, s.parents) p(open)
    where s.task_id = p_task and s.state = 'pending' and s.wake_at is null and not tasker.waits_for_place(p_task, s.no, s.held_at)
      and (p.open = 0 or s.pending_parents <> p.open)
    union all
    select format('step %s was dispatched, and nothing would send it again', s.name) from tasker.steps s
    where s.task_id = p_task and s.state = 'enqueued' and s.wake_at is null
      and not exists (select from tasker.in_process p where p.task_id = p_task)
    union all
    select format('the task counted %s active and %s failed steps instead of %s and %s', t.active_steps, t.failed_steps, f.active, f.failed)
    from tasker.tasks t, lateral (
      select count(*) filter (where tasker.is_active(s.state, s.wake_at)) as active,
        count(*) filter (where s.state in ('error', 'cancelled') and not s.tolerated) as failed
      from tasker.steps s where s.task_id = p_task offset 0) f
    where t.task_id = p_task and (t.active_steps, t.failed_steps) is distinct from (f.active, f.failed))
$$;

-- Corrects what is wrong in the rows of a running task, and lets it go on. If nothing is wrong, that is a conflict. The caller holds its locks.
create function tasker.repair_task(
  p_task uuid, p_was text, p_actor text, p_reason text, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  wrong text[]; ready int[]; active int; failed int;
begin
  wrong := tasker.unsound(p_task);
  if p_was <> 'running' or wrong = '{}' then
    return query select * from tasker.change_row('conflict', task_id => p_task, state => p_was);
    return;
  end if;
  select t.active_steps, t.failed_steps into active, failed from tasker.tasks t where t.task_id = p_task;
  select count(*) filter (where tasker.is_active(s.state, s.wake_at)) - active,
    count(*) filter (where s.state in ('error', 'cancelled') and not s.tolerated) - failed
  into active, failed from tasker.steps s where s.task_id = p_task;
  update tasker.steps s set pending_parents = k.open
  from (select q.task_id, q.no, p.open from tasker.steps q, tasker.open_parents(p_task, q.parents) p(open)
    where q.task_id = p_task and q.state = 'pending' and q.wake_at is null and not tasker.waits_for_place(p_task, q.no, q.held_at) offset 0) k
  where s.task_id = any (array[k.task_id]) and s.no = k.no;
  ready := array(select s.no from tasker.steps s
    where s.task_id = p_task and s.state = 'pending' and s.wake_at is null and s.pending_parents = 0 order by s.no);
  if p_send_ms is not null then
    update tasker.steps s set wake_at = tasker.clock() where s.task_id = p_task and s.state = 'enqueued' and s.wake_at is null
      and not exists (select from tasker.in_process p where p.task_id = p_task);
  end if;
  return query select * from tasker.audited(p_task, null, 'repair_task', p_actor, p_reason, p_was, p_was, to_json(wrong)::text);
  return query select * from tasker.advance_v1(array[p_task], array[active], array[failed],
    case when ready <> '{}' then array_fill(p_task, array[cardinality(ready)]) end, nullif(ready, '{}'),
    case when ready <> '{}' then array_fill(0, array[cardinality(ready)]) end, null, p_send_ms, p_bodies, p_max_bytes);
  perform tasker.reopened(p_task, null, p_was, p_send_ms, p_actor, p_reason);
end $$;

-- Ends a stale task. p_stale: {no, lease, detail, message, facts}; nothing is done if its facts have changed since this was decided.
create function tasker.expire_task(p_task uuid, p_was text, p_stale json, p_actor text, p_reason text)
returns setof tasker.change language plpgsql as $$
begin
  if p_was <> 'running' or tasker.lifecycle_facts(p_task)::text <> p_stale->>'facts' then
    return query select * from tasker.change_row('conflict', task_id => p_task, state => p_was);
    return;
  end if;
  perform tasker.open_entry(p_task, (p_stale->>'no')::int, 'staleness_timeout', p_stale->>'detail', null, (p_stale->>'lease')::int, p_stale);
  perform tasker.end_task(p_task, 'error');
  return query select * from tasker.audited(p_task, null, 'expire_task', p_actor, p_reason, p_was, 'error', p_stale::text);
  return query select * from tasker.change_row('finished', task_id => p_task, state => 'error');
end $$;

-- Lets go on what an entry is about, and closes it: the failed and cancelled steps of a failed task get a new budget; of a running task the
-- step does that waits for its retry. Nothing is done about an entry that is closed.
create function tasker.recover_task(
  p_task uuid, p_was text, p_entry uuid, p_metadata text, p_actor text, p_reason text, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change language plpgsql as $$
declare
  entry tasker.dlq_entries; failed int[]; own int; now_state text := p_was;
begin
  select d.* into entry from tasker.dlq_entries d
  where d.dlq_entry_id = p_entry and case when d.status = 'pending' then d.task_id = p_task end for update;
  if entry.dlq_entry_id is null then
    return query select * from tasker.change_row('not_found');
    return;
  end if;
  if p_was = 'error' then
    failed := array(select s.no from tasker.steps s where s.task_id = p_task and s.state = 'error' and not s.tolerated order by s.no
      limit 1000);
  elsif p_was = 'running' then
    failed := array(select s.no from tasker.steps s where s.task_id = p_task and s.no = entry.no and s.state = 'waiting_for_retry');
  end if;
  if coalesce(failed, '{}') = '{}' and p_was <> 'error' then
    return query select * from tasker.change_row('conflict', task_id => p_task, state => case p_was when 'running'
      then coalesce((select s.state from tasker.steps s where s.task_id = p_task and s.no = entry.no), p_was) else p_was end,
      no => case p_was when 'running' then entry.no end);
    return;
  end if;
  return query select * from tasker.change_row('done', state => p_was);
  if p_was = 'error' and exists (select from tasker.steps s where s.task_id = p_task and s.state = 'cancelled') then
    return query select c.* from tasker.reopen_task(p_task, p_was, p_metadata, p_actor, p_reason, p_send_ms, p_bodies, p_max_bytes) c
    where c.kind <> 'done';
  end if;
  foreach own in array failed loop
    select t.state into now_state from tasker.tasks t where t.task_id = p_task;
    return query select c.* from tasker.retry_step(p_task, own, now_state, null, p_metadata, p_actor, p_reason, p_send_ms, p_bodies,
      p_max_bytes) c where c.kind <> 'done';
  end loop;
  update tasker.dlq_entries d set status = 'manually_resolved', resolved_by = p_actor, notes = p_reason, resolved_at = tasker.clock(),
    updated_at = tasker.clock()
  where d.dlq_entry_id = p_entry and case when d.status = 'pending' then true end;
end $$;
