-- The sweep closes entries about dead letters and unanswered steps once the step has progressed. This index finds them.
create index dlq_entries_messages on tasker.dlq_entries (created_at)
  where status = 'pending' and reason in ('manual_dlq', 'worker_unavailable');
