-- Applies one success that makes steps; see expand_v1 in migrations.
-- $1..$9 the success · $10 what it makes · $11 send lease in ms · $12 bodies · $13 bytes of inputs
-- Returns the rows of `complete`, or one row 'again' or 'too_many'.
select * from tasker.expand_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::json, $11, $12, $13)
