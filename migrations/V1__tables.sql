-- The schema `tasker`. Its rows are the whole state of the orchestrator; messages are only wake-ups.
--
-- Tables
--   templates    revisions of workflow definitions; a row never changes
--   pauses       paused namespaces and templates
--   past_pauses  those that ended
--   tasks        one row per task: the request, the state, and two counters of its steps
--   steps        one row per step: state, attempt, lease, result; the sweep handles it at `wake_at`
--   batches      the places of batches with more workers than places
--   in_process   unfinished tasks whose dispatches may be known only to one process
--   attempts     one row per lease that received another outcome than the success that the step's row holds
--   audit_log    transitions of tasks, and operator actions
--   dlq_entries  tasks and steps that wait for an operator
--   walks        how far the sweep's walk over all tasks has come
--   outcomes     a view: all outcomes of steps, those of `attempts` and the successes in `steps`
--
-- Verbs: the store calls each by one statement, which is one transaction. The arrow names the functions that it calls.
--   submit_v1          inserts tasks with their steps, and dispatches the roots                        V3
--   submit_one_v1      the same for one task                                                           V7
--   complete_v1        applies a batch of verdicts         -> advance_v1                               V3
--   complete_one_v1    the same for one success            -> advance_v1, complete_v1 for the rest     V7
--   expand_v1          the same for one success that makes steps -> advance_v1, load_run_steps_v1, complete_v1 for the rest   V8
--   fail_batch_v1      the same for a worker's failure that ends its batch -> complete_v1, advance_v1                  V8
--   complete_many_v1   the same for successes only         -> advance_v1, complete_v1 for the rest     V7
--   dispatch_v1        dispatches steps that are due       -> advance_v1                               V2
--   sweep_v1           handles steps that are due          -> dispatch_v1, load_run_steps_v1           V4
--   load_run_steps_v1  reads the messages of dispatched steps                                          V2
--   operate_v1         carries out an operator's action, or only says what it would do -> lock_for, act V5
--   task_detail_v1     reads tasks with their steps                                                    V6
--   explain_v1         reads what explains why a task and its steps are where they are                 V6
-- Helper functions
--   advance_v1         decrements the parent counts of children, dispatches ready steps, updates counters, finishes tasks
--                                                          -> load_run_steps_v1, enter_failed          V2
--   is_paused          whether a pause holds a template's steps, and keeps it until the commit         V2
--   enter_failed       inserts the entries of failed tasks for an operator -> open_entry               V2
--   open_entry, snapshot                 inserts an entry; what it shows                               V2
--   cause, fingerprint                   what entries of one cause have in common                      V1
--   watched, lifecycle_facts             which tasks may be stale, and what decides it                 V9
--   repair_task, expire_task, recover_task   actions of operate_v1 for stale tasks and for entries     V9
--   large_results      the results of a message whose ancestors are many or large  -> load_run_steps_v1   V7
--   pass_places        gives the places of workers that ended to those that wait                               V8
--   change_row         builds a returned row                                                           V2
--   outcome_of         the outcome that `attempts` records for a verdict                               V3
--   progress, kept_checkpoints           what the row of a checkpoint tells; how many of them are kept   V3
--   lock_for, act      the locks of an operator's action; the action                                   V5
--                      -> cancel_task, reopen_task, resolve_task, pause_task, retry_step, redo_step, resolve_step, note, and those of V9
--   refusal, audited   a row for an action that is not allowed; the audit log and the row of an applied one   V5
--   reopened           names a running task in `in_process`, closes the entries that an action settled   V5
--   end_task           ends a running task, and cancels its unfinished steps                            V5
--   revive, open_batches, reopen_batch   give cancelled steps a new budget; places again to a batch that had stopped   V5
--   lock_steps, refuse_growth, grow      the first lock of what changes which steps exist; the steps that a decider makes   V8
--   clock, clock_after, hold_ms                       the only clock                                   V1
--   task_is_sound, step_is_sound, attempt_is_sound    the CHECK of each table                          V1
-- A verb of a single statement has no function; its file is in `shared/store/sql` (mark_sent, list_unsent, return_started, …).
--
-- Order of locks, everywhere: steps ascending by (task_id, no), then tasks, then in_process. A parent's number is lower than its
-- child's, so a completion locks its own steps before their children. A batch's row comes after its workers and before what follows them.
-- Who adds, removes or must see all steps of a task locks its first step before any other. It locks in one statement and reads in a later one.
--
-- The hot path has no foreign keys; `tasker-ctl doctor` checks the references.
-- The answer of an applied success stands in the step's row and in no other. What sets a complete step back or deletes it moves the answer
-- to `attempts` first (keep_answers); otherwise the same outcome again would no longer be a duplicate.
--
-- States are text with a CHECK, because clients must look up enum types.

-- The only clock that decisions use; tests replace `clock` to move it. `clock_after(null)` is null.
create function tasker.clock() returns timestamptz language sql stable as 'select now()';
create function tasker.clock_after(p_ms bigint) returns timestamptz language sql stable as
  'select tasker.clock() + p_ms * interval ''1 ms''';
-- The interval at which the sweep re-evaluates a ready step that a pause holds; equal to `HOLD_MS` in Rust.
create function tasker.hold_ms() returns bigint language sql immutable as 'select 60000::bigint';
-- When the sweep looks again at a step that a pause has held since then: after as long as the pause lasts, at most an hour. What ends a
-- pause makes its steps due.
create function tasker.hold_until(p_since timestamptz) returns timestamptz language sql stable as
  'select tasker.clock() + least(greatest(tasker.clock() - p_since, tasker.hold_ms() * interval ''1 ms''), interval ''1 hour'')';

create table tasker.templates (
  template_id uuid primary key,
  namespace text not null,
  name text not null,
  version text not null,
  revision int not null check (revision >= 1),
  definition json not null,
  -- Its thresholds and what is done beyond them, as in the definition; null: none.
  lifecycle json,
  sha256 bytea not null check (octet_length(sha256) = 32),
  created_at timestamptz not null,
  unique (namespace, name, version, revision)
);
-- Whether any task can be stale, in one look.
create index templates_watched on tasker.templates (template_id) where lifecycle is not null;

-- Pauses by operators: of a whole namespace (template '') or of one template.
create table tasker.pauses (
  namespace text not null,
  template text not null default '',
  actor text not null,
  reason text not null,
  created_at timestamptz not null,
  primary key (namespace, template)
);

-- Pauses that ended: what waited meanwhile was not late.
create table tasker.past_pauses (
  namespace text not null,
  template text not null,
  actor text not null,
  reason text not null,
  created_at timestamptz not null,
  resumed_by text not null,
  resume_reason text not null,
  resumed_at timestamptz not null
);
create index past_pauses_by_name on tasker.past_pauses (namespace, template, resumed_at);

-- The CHECKs are functions: PostgreSQL parses the text of a CHECK for every writing statement, but a function once per session.
-- As plain text, the CHECK of `steps` alone took a third of the time of a completion.

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
  awaits_callback boolean, wake_at timestamptz, finished_at timestamptz, digest bigint)
returns boolean language plpgsql immutable parallel safe as $$
begin
  return no between 1 and 268435455 and attempt between 0 and max_attempts and lease >= attempt
    and losses >= 0 and resends >= 0 and pending_parents >= 0
    and (not tolerated or state = 'error') and (not awaits_callback or state = 'in_progress')
    and (digest is null or state = 'complete')
    and case
      when state = 'enqueued' then finished_at is null
      when state in ('in_progress', 'waiting_for_retry') then wake_at is not null and finished_at is null
      when state = 'pending' then (wake_at is null or pending_parents = 0) and finished_at is null
      when state in ('complete', 'error', 'cancelled', 'resolved_manually') then wake_at is null and finished_at is not null
      else false end;
end $$;

create function tasker.attempt_is_sound(outcome text) returns boolean language plpgsql immutable parallel safe as $$
begin
  return outcome in ('success', 'failure', 'checkpoint', 'released');
end $$;

-- In `tasks` and `steps`, constant columns come first: if the new row fits on the same page, the WAL of an update contains only the
-- changed end of the row. A step is written three times and doubles in size, hence the fill factors.

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
  -- The number of steps that can progress without an operator, or are ready and held by a pause.
  active_steps int not null,
  -- The number of steps that failed (not tolerated) or were cancelled.
  failed_steps int not null,
  -- The first lease of a step that is created later is above this number.
  lease_base int not null default 0,
  paused_at timestamptz,
  finished_at timestamptz,
  constraint tasks_are_sound
    check (tasker.task_is_sound(state, active_steps, failed_steps, total_steps, identity, finished_at))
) with (fillfactor = 80);
create unique index tasks_identity on tasker.tasks (identity) where identity is not null;
-- `uuid_send` keeps the order of ids but excludes this index from look-ups by task_id. Otherwise a generic plan made while the table
-- is nearly empty could choose it instead of the primary key, and later scan all of it.
create index tasks_by_template on tasker.tasks (namespace, name, uuid_send(task_id));
-- Whether any task is paused, in one look.
create index tasks_paused on tasker.tasks (paused_at) where paused_at is not null;

create table tasker.steps (
  task_id uuid not null,
  -- Topological: a parent's number is lower. Never 0, so that no step has its task's UUID.
  no int not null,
  name text not null,
  max_attempts int not null,
  parents int[] not null,
  children int[] not null,
  -- The nearest ancestors beyond the parents whose results its message carries.
  further_ancestors int[] not null,
  inputs json,
  -- The number of started attempts; counts against max_attempts.
  attempt int not null default 0,
  pending_parents int not null,
  -- Workers lost under the current attempt, and re-sends under the current lease.
  losses int not null default 0,
  resends int not null default 0,
  -- The fence: increased by every dispatch, cancel and manual resolution; never reset.
  lease int not null default 0,
  dispatched_at timestamptz,
  started_at timestamptz,
  -- pending | enqueued | in_progress | waiting_for_retry | complete | error | cancelled | resolved_manually
  state text not null,
  tolerated boolean not null default false,
  awaits_callback boolean not null default false,
  -- When the sweep handles the step; not null if and only if it is dispatched, waits for a retry, or is held by a pause. Of a dispatch
  -- whose message is only in the queue of one process it is null, and `in_process` names its task.
  wake_at timestamptz,
  -- Since when a pause holds the step, which is ready or whose retry is due; null otherwise.
  held_at timestamptz,
  -- Not null if and only if the step is finished.
  finished_at timestamptz,
  result_bytes int not null default 0,
  checkpoint json,
  result json,
  error json,
  -- Of a done decision the numbers of the steps that it named, of a done batchable the number of its pattern and how many workers it
  -- made; null of every other step.
  created int[],
  -- The answer of the success that completed the step, beside its result; null otherwise. The digest is as in `attempts`.
  digest bigint,
  duration_ms bigint,
  worker text,
  metadata json,
  primary key (task_id, no),
  constraint steps_are_sound check (tasker.step_is_sound(
    state, no, lease, attempt, max_attempts, losses, resends, pending_parents, tolerated, awaits_callback, wake_at, finished_at,
    digest))
) with (fillfactor = 35, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- The only index of unfinished steps; each sweep is a range scan of it. What changes no `wake_at` writes no index.
create index steps_wake on tasker.steps (wake_at) where wake_at is not null;
-- What a resume makes due.
create index steps_held on tasker.steps (task_id, no) where held_at is not null;

-- The unfinished tasks whose dispatches may be known only to the process that owns the database, in whose queue they are. Such a dispatch
-- has no `wake_at`, so that nothing between it and its completion touches an index of `steps`. A table of its own, because an index of
-- `tasks` over a column that the finish changes would make that update write all indexes of `tasks`.
create table tasker.in_process (
  task_id uuid primary key
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The batches with more workers than places. A worker that waits for a place is pending with one open parent more, the place.
create table tasker.batches (
  task_id uuid not null,
  -- The number of the pattern. Its workers have the numbers after it.
  no int not null,
  workers int not null,
  parallelism int not null check (parallelism >= 1),
  -- The last worker that got a place in its turn.
  next int not null,
  -- The workers that have a place: those that are live, held by a pause, or wait for a retry or a callback.
  running int not null check (running >= 0),
  -- False once a worker failed that ends its batch: no place is passed on.
  open boolean not null default true,
  primary key (task_id, no)
) with (fillfactor = 50);

-- One row per lease that received an outcome, without the success that completed a step. Start reports, heartbeats and pending
-- callbacks write no row.
create table tasker.attempts (
  task_id uuid not null,
  no int not null,
  lease int not null,
  attempt int not null,
  -- success | failure | checkpoint | released
  outcome text not null,
  -- False if the lease was no longer current: the outcome had no effect.
  applied boolean not null,
  -- The hash of the outcome: an equal outcome is a duplicate, a different one is stale.
  digest bigint not null,
  error json,
  -- Metadata of the handler, for operators.
  metadata json,
  worker text not null,
  duration_ms bigint not null,
  dispatched_at timestamptz,
  finished_at timestamptz not null,
  -- Whether a success came that was too late to be applied, be it the outcome of this row or a later one under its lease. If its result is
  -- not large, it is kept: an operator may settle the step with it.
  late boolean not null default false,
  result json,
  primary key (task_id, no, lease),
  constraint attempts_are_sound check (tasker.attempt_is_sound(outcome))
);

-- All outcomes, for people and tests. Rows of an older version have their successes in `attempts`.
create view tasker.outcomes as
  select * from tasker.attempts
  union all
  select s.task_id, s.no, s.lease, s.attempt, 'success', true, s.digest, null, s.metadata, s.worker, s.duration_ms, s.dispatched_at,
    s.finished_at, false, null
  from tasker.steps s where s.digest is not null;

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
  -- Metadata of the operator action.
  metadata json,
  -- What an operator's action changed: {"before", "after": the step that it is about, "steps": [{"no", "name", "before", "after": states}],
  -- "not_listed": further steps}. The step's result, inputs and error are in it, which the action may have replaced.
  changes json,
  created_at timestamptz not null,
  primary key (task_id, audit_id)
);

-- Tasks and steps that wait for an operator. What they are about is written into the entry, which may outlive its task.
create table tasker.dlq_entries (
  dlq_entry_id uuid primary key default gen_random_uuid(),
  task_id uuid not null,
  -- The step that it is about; null: the whole task.
  no int,
  namespace text not null,
  template text not null,
  step text,
  -- The lease of the step at that time, if the entry is about what did not happen under it.
  lease int,
  original_state text not null,
  reason text not null check (reason in
    ('staleness_timeout', 'max_retries_exceeded', 'dependency_cycle_detected', 'worker_unavailable', 'manual_dlq')),
  reason_detail text not null,
  -- Equal for entries that probably have one cause; see the function `fingerprint`.
  fingerprint text not null,
  status text not null default 'pending'
    check (status in ('pending', 'manually_resolved', 'permanently_failed', 'cancelled')),
  -- As in the function `snapshot`.
  snapshot json not null,
  notes text,
  resolved_by text,
  metadata json,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  resolved_at timestamptz,
  check ((resolved_at is not null) = (status <> 'pending'))
);
-- A task has at most one open entry per reason.
create unique index dlq_entries_open on tasker.dlq_entries (task_id, reason) where status = 'pending';
create index dlq_entries_task on tasker.dlq_entries (task_id, created_at);
create index dlq_entries_by_time on tasker.dlq_entries (created_at, dlq_entry_id);
create index dlq_entries_by_status on tasker.dlq_entries (status, created_at, dlq_entry_id);
-- Of entries that the sweep closes once what they are about has moved on.
create index dlq_entries_moving on tasker.dlq_entries (created_at)
  where status = 'pending' and reason in ('manual_dlq', 'worker_unavailable', 'staleness_timeout');
create index dlq_entries_causes on tasker.dlq_entries (fingerprint, created_at, dlq_entry_id) where status = 'pending';

-- A failure's message without what differs from case to case: times, ids, quoted text and numbers. Long messages are cut, because the
-- beginning tells the cause.
create function tasker.cause(p_message text) returns text language sql immutable as $$
  select regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(
    left(p_message, 1000),
    '"[^"]*"|`[^`]*`|(?<!\w)''[^'']*''(?!\w)', '<text>', 'g'),
    '\m[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\M', '<id>', 'gi'),
    '\m\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|UTC|[+-]\d{2}(:?\d{2})?))?)?(?!\w)|\m\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\M', '<time>', 'g'),
    '\m0x[0-9a-f]+\M|\m(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{6,}\M', '<id>', 'gi'),
    '\m[A-Za-z_]*\d+[A-Za-z_]+\d\w*\M', '<id>', 'g'),
    '\d+([.,]\d+)*', '<n>', 'g'),
    '\s+', ' ', 'g')
$$;

-- What entries of one cause have in common, as twelve hexadecimal digits. p_step: the step's name, of a worker that of its pattern or
-- anything like it; p_error: the type of the failure, or the reason in detail.
create function tasker.fingerprint(p_namespace text, p_template text, p_step text, p_error text, p_message text)
returns text language sql immutable as $$
  select left(md5(json_build_array(p_namespace, p_template, p_step, p_error, tasker.cause(p_message))::text), 12)
$$;

-- The last task that the walk over all tasks looked at, by the name of the walk.
create table tasker.walks (
  name text primary key,
  task_id uuid not null
);
