-- Handles steps that are due; see sweep_v1 in migrations.
-- $1 rows at most · $2 send lease in ms · $3 bodies · $4 bytes of inputs
-- Returns the messages to send, and the overdue steps about which the caller decides.
select * from tasker.sweep_v1($1, $2, $3, $4)
