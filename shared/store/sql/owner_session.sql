-- The process id of this session.
select pg_backend_pid()
