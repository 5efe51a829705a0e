-- Ends sessions of this role.
-- $1 their process ids
select pg_terminate_backend(pid) from unnest($1::int[]) pid
