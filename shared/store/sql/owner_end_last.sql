-- Ends this process's last session if it still holds the ownership: the server had not noticed that its connection is gone.
-- $1 the last session's process id
-- Answers a row if it did.
select pg_terminate_backend(l.pid) from pg_locks l
where l.locktype = 'advisory' and l.granted and l.pid = $1
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
