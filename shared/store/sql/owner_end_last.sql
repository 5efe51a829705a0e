-- Terminates this process's previous session if it still holds the lock, because the server has not noticed its lost connection.
-- $1 the backend's process id
-- Returns a row if a session was terminated.
select pg_terminate_backend(l.pid) from pg_locks l
where l.locktype = 'advisory' and l.granted and l.pid = $1
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
