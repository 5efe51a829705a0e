-- Applies successes; see complete_many_v1 in migrations.
-- $1..$9 one value per success, ascending by (task, no), one per step · $10 send lease in ms · $11 bodies · $12 bytes of inputs
-- Returns the rows of `complete`.
select * from tasker.complete_many_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
