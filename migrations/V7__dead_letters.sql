-- Messages that were given up have a row in dlq_entries, and so have steps that no worker takes. Both are closed by the sweep once
-- the step has moved on, which looks them up by this.
create index dlq_entries_messages on tasker.dlq_entries (created_at)
  where status = 'pending' and reason in ('manual_dlq', 'worker_unavailable');
