-- Inserts one task with its steps; see submit_one_v1 in migrations.
-- $1..$11 the task · $12..$18 its template in an environment · $19..$24 per step · $25 send lease in ms
-- Returns a row of `submit`.
select * from tasker.submit_one_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
  $21, $22, $23, $24, $25)
