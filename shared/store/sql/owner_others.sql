-- The sessions of this database that belong to the product's pools.
-- $1 their application name
select pid from pg_stat_activity where datname = current_database() and application_name = $1
