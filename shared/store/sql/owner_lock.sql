-- Takes the ownership of this database for this session.
-- $1 the lock
-- Returns whether the lock was free.
select pg_try_advisory_lock($1)
