-- Ends a running task; see cancel_v1 in migrations.
-- $1 task · $2 who · $3 why
select * from tasker.cancel_v1($1, $2, $3)
