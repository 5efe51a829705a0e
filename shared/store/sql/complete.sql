-- Applies a batch of verdicts; see complete_v1 in migrations.
-- $1..$13 one value per completion, ascending by (task, no), one per step · $14 send lease in ms · $15 bodies · $16 bytes of inputs
-- Returns the answer to each completion, the finished tasks, and the messages to send.
select * from tasker.complete_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
