-- The newest DLQ entry of a task, or an entry by its id.
-- $1 task or null · $2 entry or null
select e.*, e.snapshot::text as snapshot_text, e.metadata::text as metadata_text from tasker.dlq_entries e
where e.task_id = $1 or e.dlq_entry_id = $2 order by e.created_at desc, e.dlq_entry_id desc limit 1
