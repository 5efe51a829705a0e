-- Resets a step's attempts; see retry_step_v1 in migrations.
-- $1 task · $2 step number · $3 who · $4 why · $5 send lease in ms · $6 bytes of inputs
select * from tasker.retry_step_v1($1, $2, $3, $4, $5, $6)
