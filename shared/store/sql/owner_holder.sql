-- The session that holds a mark.
-- $1 the mark
-- Returns at most one row: the session's process id, and whether it is this session.
select l.pid, l.pid = pg_backend_pid() from pg_locks l
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid::bigint << 32 | l.objid::bigint = $1
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
