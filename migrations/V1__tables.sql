-- The schema `tasker`: what the orchestrator knows. A message only wakes somebody up; every fact is a row here.
--
-- Tables
--   templates    revisions of workflow definitions; a row never changes
--   pauses       namespaces and templates that an operator holds back
--   tasks        one row a task: what was submitted, its state, and two counters over its steps
--   steps        one row a step: state, attempt, lease, result; `wake_at` says when to look at it again
--   attempts     one row for each lease that was answered
--   audit_log    transitions of tasks, and operator actions
--   dlq_entries  tasks and steps that wait for an operator
--
-- Verbs: the store calls each by one statement, which is one transaction. The arrow names the functions that it calls.
--   submit_v1          inserts tasks with their steps, and dispatches the roots                        V3
--   complete_v1        applies a batch of verdicts         -> advance_v1                               V3
--   dispatch_v1        dispatches steps that are due       -> advance_v1                               V2
--   sweep_v1           takes up steps that are due         -> dispatch_v1, load_run_steps_v1           V4
--   load_run_steps_v1  reads the messages of dispatched steps                                          V2
--   cancel_v1          ends a task                                                                     V5
--   retry_step_v1      gives a step a new budget           -> refusal, advance_v1, close_dlq_entries   V5
--   resolve_step_v1    settles a step by hand              -> refusal, advance_v1, close_dlq_entries   V5
--   task_detail_v1     reads tasks with their steps                                                    V6
-- Parts of them
--   advance_v1         counts children down, dispatches what is ready, moves counters, finishes tasks
--                                                          -> load_run_steps_v1                        V2
--   change_row         makes a row of an answer                                                        V2
--   refusal            says why an operator action on a step is not allowed                            V5
--   close_dlq_entries  closes the entry of a task that left the error state                            V5
--   clock, clock_after, hold_ms                       the one clock                                    V1
--   task_is_sound, step_is_sound, attempt_is_sound    what holds of every row                          V1
-- A verb that is one statement is no function: it stands in the store's `sql/` (mark_sent, list_unsent, return_started, doctor_* …).
--
-- Order of locks, everywhere: steps ascending by (task_id, no), then tasks. A parent's number is lower than its child's, so a
-- completion takes its own steps before their children. An operator action locks in a statement of its own and reads in a later one.
--
-- No foreign keys on the hot path: `tasker-ctl doctor` checks what they would.
-- States are text with a CHECK, not enum types: a client then needs no look-ups of types.

create schema if not exists tasker;

-- The one clock. Nothing else in the product decides by time; tests replace `clock` to move it. After null milliseconds: never.
create function tasker.clock() returns timestamptz language sql stable as 'select now()';
create function tasker.clock_after(p_ms bigint) returns timestamptz language sql stable as
  'select coalesce(tasker.clock() + p_ms * interval ''1 ms'', ''infinity'')';
-- How long a ready step that a pause holds back waits for the next look; the same as `HOLD_MS` in Rust.
create function tasker.hold_ms() returns bigint language sql immutable as 'select 60000::bigint';

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

-- What holds of every row. Functions, because every statement that writes a table parses the text of its CHECKs again, and a
-- function only once a session: spelled out, the rules of `steps` alone cost a third of a completion.

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
  return no between 1 and 268435455 and attempt between 0 and max_attempts and lease >= attempt
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

-- In the two tables whose rows change, constant columns come first and moving ones last: the log of an update then holds only
-- the end of the row, if the page has room for the new row. A step is written three times and grows to twice its size.

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
  -- A topological number: a parent's is always lower. Never 0, so that no step shares its task's UUID.
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
  -- The fence: rises at every dispatch and every cancel, and is never reset.
  lease int not null default 0,
  dispatched_at timestamptz,
  started_at timestamptz,
  -- pending | enqueued | in_progress | waiting_for_retry | complete | error | cancelled | resolved_manually
  state text not null,
  tolerated boolean not null default false,
  awaits_callback boolean not null default false,
  -- When to look at it again; set exactly while it is live, or held.
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
  dispatched_at timestamptz,
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
