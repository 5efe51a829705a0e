-- Inserts tasks with their steps; see submit_v1 in migrations.
-- $1..$12 one value a task · $13..$20 one a plan · $21..$27 one a step of a plan · $28 send lease in ms
-- Answers one row a task, in order: the inserted one, or the one that stood in its way.
select * from tasker.submit_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
  $21, $22, $23, $24, $25, $26, $27, $28) order by idx
