-- The names of templates, to find one near a name that is not registered.
-- $1 rows
select distinct t.namespace, t.name from tasker.templates t order by t.namespace, t.name limit $1
