-- Applies one failure that ends its batch; see fail_batch_v1 in migrations.
-- $1..$9 the failure · $10 only if it is due · $11 send lease in ms · $12 bodies · $13 bytes of inputs
-- Returns the rows of `complete`.
select * from tasker.fail_batch_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
