-- Resolves a step; see resolve_step_v1 in migrations.
-- $1 task · $2 step number · $3 result or null · $4 actor · $5 reason · $6 metadata as JSON, or null · $7 send lease in ms · $8 bodies
-- $9 bytes of inputs
select * from tasker.resolve_step_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)
