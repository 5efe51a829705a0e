-- The newest revision of every version of every template.
-- $1 namespace or null · $2 rows
select d.namespace, d.name, d.version, d.definition->>'description' as description,
  case json_typeof(d.definition->'steps') when 'array' then json_array_length(d.definition->'steps') else 0 end as steps
from (select distinct on (t.namespace, t.name, t.version) t.* from tasker.templates t
      where $1::text is null or t.namespace = $1 order by t.namespace, t.name, t.version, t.revision desc) d
order by d.namespace, d.name, d.version limit $2
