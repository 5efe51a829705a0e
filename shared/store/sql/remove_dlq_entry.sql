-- Removes the entry about a message that succeeded at its last receive.
-- $1 entry
delete from tasker.dlq_entries where dlq_entry_id = $1 and status = 'pending'
