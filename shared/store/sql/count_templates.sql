-- Counts the template versions of each namespace.
select t.namespace, count(distinct (t.name, t.version)) as templates from tasker.templates t group by t.namespace order by t.namespace
