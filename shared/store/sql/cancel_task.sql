-- Cancels a running task; see cancel_v1 in migrations.
-- $1 task · $2 actor · $3 reason
select * from tasker.cancel_v1($1, $2, $3)
