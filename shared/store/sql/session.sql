-- Begins every session: what our statements rely on, whatever the role or the database sets. The invariants hold at this isolation level: a
-- statement that waited for a lock reads the row again. A commit that is answered is on the server's disk. Keep-alives let the server end the session of a machine that is gone, with its
-- locks. A database with another encoding is refused.
set default_transaction_isolation = 'read committed';
set default_transaction_deferrable = off;
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';
set idle_session_timeout = 0;
set tcp_keepalives_idle = 10;
set tcp_keepalives_interval = 5;
set tcp_keepalives_count = 3;
set tcp_user_timeout = 25000;
do $$ begin
  if pg_catalog.getdatabaseencoding() <> 'UTF8' then
    raise exception using errcode = 'TK001', message = pg_catalog.format(
      'the encoding of the database %I is %s, which cannot store every text; use a database that was created with '
      '`create database NAME encoding ''UTF8'' template template0`',
      pg_catalog.current_database(), pg_catalog.getdatabaseencoding());
  end if;
end $$;
