-- What this session's role may do in the schema.
-- Returns one row: role, database, whether it is read-only, whether schema and history exist, the schema's owner, and the rights.
select quote_ident(current_user), quote_ident(current_database()), current_setting('transaction_read_only')::boolean,
  n.oid is not null, h.oid is not null, quote_ident(pg_get_userbyid(n.nspowner)),
  has_database_privilege(current_database(), 'create'),
  coalesce(has_schema_privilege(n.oid, 'create'), false),
  coalesce(has_schema_privilege(n.oid, 'usage') and has_table_privilege(h.oid, 'select'), false)
from (values (1)) one
left join pg_namespace n on n.nspname = 'tasker'
left join pg_class h on h.relnamespace = n.oid and h.relname = 'schema_history'
