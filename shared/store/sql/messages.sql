-- The messages of steps that are handed over.
-- $1 tasks · $2 step numbers · $3 bytes of inputs
-- Answers what is shared by each task's messages, then one row a step that is still enqueued.
select * from tasker.messages_v1($1, $2, $3)
