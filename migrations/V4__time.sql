-- What only time or recovery makes ready.

-- Hands over steps whose time has come: due retries, and ready steps that a pause held. Ascending by (task_id, no).
-- Only under the named lease, and only once due; what comes early is answered with the remainder.
create function tasker.hand_over_v1(
  p_task uuid[], p_no int[], p_lease int[], p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  held uuid[]; e_task uuid[]; e_no int[]; e_lease int[];
begin
  select array_agg(t.task_id) into held from tasker.tasks t
  where t.task_id = any (p_task) and (t.paused_at is not null or exists (
    select from tasker.pauses p where p.namespace = t.namespace and p.template in ('', t.name)));

  with due as (
    update tasker.steps s set
      state = case when k.held then s.state else 'enqueued' end,
      lease = case when k.held then s.lease else s.lease + 1 end,
      attempt = case when k.held then s.attempt when s.state = 'waiting_for_retry' then s.attempt + 1 else greatest(s.attempt, 1) end,
      resends = 0,
      started_at = null,
      handed_over_at = case when k.held then s.handed_over_at else tasker.clock() end,
      wake_at = case when k.held then tasker.clock() + interval '60 s' when p_send_ms is null then 'infinity'
                     else tasker.clock() + p_send_ms * interval '1 ms' end
    from (select u.task_id, u.no, u.lease, u.task_id = any (coalesce(held, '{}')) as held
          from unnest(p_task, p_no, p_lease) u(task_id, no, lease)) k
    -- `coalesce`, so that no plan finds these rows by their time: it would lock what is due in the order in which it lies there.
    where s.task_id = any (array[k.task_id]) and s.no = k.no and s.lease = k.lease and s.state in ('waiting_for_retry', 'pending')
      and coalesce(s.wake_at, 'infinity') <= tasker.clock()
    returning s.task_id, s.no, s.lease, s.state)
  select array_agg(d.task_id), array_agg(d.no), array_agg(d.lease) into e_task, e_no, e_lease from due d where d.state = 'enqueued';

  return query select 'early', null::int, s.task_id, s.no, s.lease, null::int, null::int, null::int, null::int,
    ceil(extract(epoch from s.wake_at - tasker.clock()) * 1000)::bigint, null::text, null::uuid, null::text, null::uuid, null::text,
    null::text, null::text, null::bigint, null::text, null::text
  from unnest(p_task, p_no, p_lease) k(task_id, no, lease),
    lateral (select * from tasker.steps q where q.task_id = k.task_id and q.no = k.no offset 0) s
  where s.lease = k.lease and s.state = 'waiting_for_retry' and s.wake_at > tasker.clock();

  if e_task is not null then
    return query select * from tasker.messages_v1(e_task[:p_bodies], e_no[:p_bodies], p_max_bytes);
    if cardinality(e_task) > p_bodies then
      return query select 'run_key', null::int, u.task_id, u.no, u.lease, null::int, null::int, null::int, null::int,
        null::bigint, null::text, null::uuid, null::text, null::uuid, null::text, null::text, null::text, null::bigint, null::text, null::text
      from unnest(e_task[p_bodies + 1:], e_no[p_bodies + 1:], e_lease[p_bodies + 1:]) u(task_id, no, lease);
    end if;
  end if;
end $$;

-- Takes up at most p_limit steps whose time has passed: due retries and held steps are handed over, hand-overs that nobody
-- answered are sent again under their lease, started steps past their deadline are answered for the caller to decide.
-- Two at once take different rows, and a step that a completion works on is left to it.
create function tasker.sweep_v1(p_limit bigint, p_send_ms bigint, p_bodies int, p_max_bytes bigint)
returns setof tasker.change
language plpgsql
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  h_task uuid[]; h_no int[]; h_lease int[]; r_task uuid[]; r_no int[]; l_task uuid[]; l_no int[];
begin
  with due as materialized (
    select s.task_id, s.no, s.lease, s.state from tasker.steps s where s.wake_at <= tasker.clock()
    order by s.wake_at limit p_limit for update skip locked
  ), o as (select * from due order by task_id, no)
  select array_agg(o.task_id) filter (where o.state in ('pending', 'waiting_for_retry')),
    array_agg(o.no) filter (where o.state in ('pending', 'waiting_for_retry')),
    array_agg(o.lease) filter (where o.state in ('pending', 'waiting_for_retry')),
    array_agg(o.task_id) filter (where o.state = 'enqueued'), array_agg(o.no) filter (where o.state = 'enqueued'),
    array_agg(o.task_id) filter (where o.state = 'in_progress'), array_agg(o.no) filter (where o.state = 'in_progress')
  into h_task, h_no, h_lease, r_task, r_no, l_task, l_no from o;

  if r_task is not null then
    update tasker.steps s set resends = s.resends + 1,
      wake_at = case when p_send_ms is null then 'infinity' else tasker.clock() + p_send_ms * interval '1 ms' end
    from unnest(r_task, r_no) k(task_id, no) where s.task_id = any (array[k.task_id]) and s.no = k.no;
    -- Nobody takes it: after the third re-send an operator should know. The step stays enqueued.
    insert into tasker.dlq_entries (task_id, no, original_state, reason, reason_detail, snapshot, created_at, updated_at)
    select s.task_id, s.no, 'running', 'worker_unavailable', 'sent again three times and not answered',
      json_build_object('step', s.name, 'lease', s.lease, 'attempt', s.attempt), tasker.clock(), tasker.clock()
    from unnest(r_task, r_no) k(task_id, no),
      lateral (select * from tasker.steps q where q.task_id = k.task_id and q.no = k.no offset 0) s
    where s.resends = 3
    on conflict (task_id, reason) where status = 'pending' do nothing;
    return query select * from tasker.messages_v1(r_task, r_no, p_max_bytes);
  end if;

  if l_task is not null then
    return query select case when s.awaits_callback then 'expired' else 'lost' end, null::int, s.task_id, s.no, s.lease, s.attempt,
      s.max_attempts, s.resends, s.losses, null::bigint, s.state, t.template_id, t.environment, t.correlation_id, t.traceparent,
      null::text, null::text, null::bigint, null::text, null::text
    from unnest(l_task, l_no) k(task_id, no),
      lateral (select * from tasker.steps q where q.task_id = k.task_id and q.no = k.no offset 0) s,
      lateral (select * from tasker.tasks q where q.task_id = k.task_id offset 0) t;
  end if;

  if h_task is not null then
    return query select * from tasker.hand_over_v1(h_task, h_no, h_lease, p_send_ms, p_bodies, p_max_bytes);
  end if;
end $$;
