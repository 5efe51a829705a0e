-- The rights on this version's schema that this session's role needs at run time and does not have.
-- Returns (right), such as `insert on steps`.
with schema as materialized (select n.oid from pg_namespace n where n.nspname = 'tasker')
select 'usage on schema tasker' from schema n where not has_schema_privilege(n.oid, 'usage')
union all
select p.name || ' on ' || c.relname from schema n
  join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p') and c.relname <> 'schema_history'
  cross join unnest('{select,insert,update,delete}'::text[]) p (name)
  where not has_table_privilege(c.oid, p.name)
union all
select 'execute on ' || f.proname from schema n
  join pg_proc f on f.pronamespace = n.oid where not has_function_privilege(f.oid, 'execute')
