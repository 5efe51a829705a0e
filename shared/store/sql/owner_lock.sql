-- Takes the ownership of this database for this session, and marks its session.
-- $1 the lock · $2 the mark
-- Returns whether the lock was free.
select case when pg_try_advisory_lock($1) then pg_try_advisory_lock($2) else false end
