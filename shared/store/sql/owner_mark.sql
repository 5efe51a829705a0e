-- Marks this session until its connection ends.
-- $1 the mark
select pg_try_advisory_lock($1)
