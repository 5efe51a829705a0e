-- Inserts tasks with their steps; see submit_v1 in migrations.
-- $1..$12 one value per task · $13..$20 per template in an environment · $21..$27 per step of these · $28 send lease in ms
-- Returns one row per task, in order: the inserted task, or the existing one with the same identity.
select * from tasker.submit_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
  $21, $22, $23, $24, $25, $26, $27, $28) order by idx
