-- The facts. Everything the orchestrator knows is in these tables; messages only wake somebody up.
-- No foreign keys on the hot path: `tasker-ctl doctor` checks what they would.
-- States are text with a CHECK, not enum types: a client then needs no look-ups of types.

create schema if not exists tasker;

-- The one clock. Nothing else in the product decides by time; tests replace this function to move it.
create function tasker.clock() returns timestamptz language sql stable as 'select now()';

create table tasker.templates (
  template_id uuid primary key,
  namespace text not null,
  name text not null,
  version text not null,
  revision int not null check (revision >= 1),
  definition json not null,
  sha256 bytea not null check (octet_length(sha256) = 32),
  created_at timestamptz not null,
  unique (namespace, name, version, revision)
);

-- What an operator holds back: a whole namespace (template '') or one template of it.
create table tasker.pauses (
  namespace text not null,
  template text not null default '',
  actor text not null,
  reason text not null,
  created_at timestamptz not null,
  primary key (namespace, template)
);

-- What holds of every row. Functions, because the text of a CHECK is read anew by every statement that writes its table, and a
-- function once a session: spelled out, the rules of `steps` alone cost a third of a completion.

create function tasker.task_is_sound(
  state text, active_steps int, failed_steps int, total_steps int, identity bytea, finished_at timestamptz)
returns boolean language plpgsql immutable parallel safe as $$
begin
  return active_steps >= 0 and failed_steps >= 0 and total_steps >= 0 and (identity is null or octet_length(identity) = 32)
    and case
      when state = 'running' then active_steps > 0 and finished_at is null
      when state in ('complete', 'error', 'cancelled', 'resolved_manually') then active_steps = 0 and finished_at is not null
      else false end;
end $$;

create function tasker.step_is_sound(
  state text, no int, lease int, attempt int, max_attempts int, losses int, resends int, pending_parents int, tolerated boolean,
  awaits_callback boolean, wake_at timestamptz, finished_at timestamptz)
returns boolean language plpgsql immutable parallel safe as $$
begin
  return no between 0 and 268435455 and attempt between 0 and max_attempts and lease >= attempt
    and losses >= 0 and resends >= 0 and pending_parents >= 0
    and (not tolerated or state = 'error') and (not awaits_callback or state = 'in_progress')
    and case
      when state in ('enqueued', 'in_progress', 'waiting_for_retry') then wake_at is not null and finished_at is null
      when state = 'pending' then (wake_at is null or pending_parents = 0) and finished_at is null
      when state in ('complete', 'error', 'cancelled', 'resolved_manually') then wake_at is null and finished_at is not null
      else false end;
end $$;

create function tasker.attempt_is_sound(outcome text) returns boolean language plpgsql immutable parallel safe as $$
begin
  return outcome in ('success', 'failure', 'checkpoint', 'released');
end $$;

-- In the two tables whose rows move, what never changes comes first and what moves last: the log of an update then holds the end
-- of the row only, if the new row has room beside the old one. A step is written three times and grows to twice its size.

create table tasker.tasks (
  task_id uuid primary key,
  template_id uuid not null,
  namespace text not null,
  name text not null,
  version text not null,
  environment text not null,
  identity bytea,
  context json not null,
  priority int,
  tags text[] not null,
  initiator text not null,
  source_system text not null,
  reason text not null,
  correlation_id uuid not null,
  parent_correlation_id uuid,
  traceparent text,
  total_steps int not null,
  created_at timestamptz not null,
  -- running | complete | error | cancelled | resolved_manually
  state text not null,
  -- Steps that can still move by themselves, or are ready and held back.
  active_steps int not null,
  -- Steps that ended and are not done: error that is not tolerated, cancelled.
  failed_steps int not null,
  -- Leases of steps that are made later start above this.
  lease_base int not null default 0,
  paused_at timestamptz,
  finished_at timestamptz,
  constraint tasks_are_sound
    check (tasker.task_is_sound(state, active_steps, failed_steps, total_steps, identity, finished_at))
) with (fillfactor = 80);
create unique index tasks_identity on tasker.tasks (identity) where identity is not null;
-- `uuid_send` keeps the order, and keeps this index from serving look-ups by task_id: while the table has one row it would cost as
-- much as the key does, and a plan that chose it would walk it whole when there are more.
create index tasks_by_template on tasker.tasks (namespace, name, uuid_send(task_id));

create table tasker.steps (
  task_id uuid not null,
  -- A topological number: a parent's is always lower.
  no int not null,
  name text not null,
  max_attempts int not null,
  parents int[] not null,
  children int[] not null,
  -- The nearest ancestors beyond the parents whose results its message carries.
  further_ancestors int[] not null,
  inputs json,
  -- The budget: what users see.
  attempt int not null default 0,
  pending_parents int not null,
  -- Workers lost, and messages sent again, under the current attempt and lease.
  losses int not null default 0,
  resends int not null default 0,
  -- The fence: rises at every hand-over and every cancel, and is never reset.
  lease int not null default 0,
  handed_over_at timestamptz,
  started_at timestamptz,
  -- pending | enqueued | in_progress | waiting_for_retry | complete | error | cancelled | resolved_manually
  state text not null,
  tolerated boolean not null default false,
  awaits_callback boolean not null default false,
  -- When somebody must look at it again; set exactly while it is live, or held.
  wake_at timestamptz,
  -- Set exactly when it is finished.
  finished_at timestamptz,
  result_bytes int not null default 0,
  checkpoint json,
  result json,
  error json,
  primary key (task_id, no),
  constraint steps_are_sound check (tasker.step_is_sound(
    state, no, lease, attempt, max_attempts, losses, resends, pending_parents, tolerated, awaits_callback, wake_at, finished_at))
) with (fillfactor = 35, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- The only index of the live set; every sweep is a range of it.
create index steps_wake on tasker.steps (wake_at) where wake_at is not null;

-- One row for each lease that was answered. Reports, heartbeats and the announcement of a callback write none.
create table tasker.attempts (
  task_id uuid not null,
  no int not null,
  lease int not null,
  attempt int not null,
  -- success | failure | checkpoint | released
  outcome text not null,
  -- False: it came under a lease that was no longer the step's, and changed nothing.
  applied boolean not null,
  -- Of the outcome: the same one again is a duplicate, another one is stale.
  digest bigint not null,
  error json,
  -- What the handler said beside its result, for operators.
  metadata json,
  worker text not null,
  duration_ms bigint not null,
  handed_over_at timestamptz,
  finished_at timestamptz not null,
  primary key (task_id, no, lease),
  constraint attempts_are_sound check (tasker.attempt_is_sound(outcome))
);

-- Transitions of tasks, and every operator's action.
create table tasker.audit_log (
  task_id uuid not null,
  audit_id uuid not null default gen_random_uuid(),
  no int,
  action text not null,
  actor text not null,
  reason text not null,
  from_state text,
  to_state text not null,
  -- What the operator said beside the reason.
  metadata json,
  created_at timestamptz not null,
  primary key (task_id, audit_id)
);

create table tasker.dlq_entries (
  dlq_entry_id uuid primary key default gen_random_uuid(),
  task_id uuid not null,
  no int,
  original_state text not null,
  reason text not null check (reason in
    ('staleness_timeout', 'max_retries_exceeded', 'dependency_cycle_detected', 'worker_unavailable', 'manual_dlq')),
  reason_detail text not null,
  status text not null default 'pending'
    check (status in ('pending', 'manually_resolved', 'permanently_failed', 'cancelled')),
  snapshot json not null,
  notes text,
  resolved_by text,
  metadata json,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  resolved_at timestamptz,
  check ((resolved_at is not null) = (status <> 'pending'))
);
-- A task stands in the queue once for each reason, however often the reason arises.
create unique index dlq_entries_open on tasker.dlq_entries (task_id, reason) where status = 'pending';
create index dlq_entries_task on tasker.dlq_entries (task_id, created_at);
