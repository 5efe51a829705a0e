-- Settles a step; see resolve_step_v1 in migrations.
-- $1 task · $2 step number · $3 result or null · $4 who · $5 why · $6 send lease in ms · $7 bodies · $8 bytes of inputs
select * from tasker.resolve_step_v1($1, $2, $3, $4, $5, $6, $7, $8)
