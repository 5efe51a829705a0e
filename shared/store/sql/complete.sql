-- Applies a batch of verdicts; see complete_v1 in migrations.
-- $1..$13 one value a completion, ascending by (task, no), one a step · $14 send lease in ms · $15 bodies · $16 bytes of inputs
-- Answers what became of each, what finished, and what must be sent.
select * from tasker.complete_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
