-- Terminates the sessions that a dead process left in this database.
-- $1 their application name
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = $1
