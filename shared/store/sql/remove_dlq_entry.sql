-- The message was handled after all.
-- $1 entry
delete from tasker.dlq_entries where dlq_entry_id = $1 and status = 'pending'
