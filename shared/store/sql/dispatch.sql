-- Dispatches steps whose retry is due; see dispatch_v1 in migrations.
-- $1 tasks · $2 step numbers · $3 leases, ascending by (task, no) · $4 send lease in ms · $5 bodies · $6 bytes of inputs
-- Returns the messages to send, and the retries that are not due yet.
select * from tasker.dispatch_v1($1, $2, $3, $4, $5, $6)
