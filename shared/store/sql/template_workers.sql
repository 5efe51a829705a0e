-- The workers that the steps of registered templates name: of the newest revision of every version. Null: a step that names none.
-- $1 templates at most
-- Returns (namespace, name, version, worker), each once.
select distinct d.namespace, d.name, d.version, s.step->>'worker' as worker
from (select distinct on (t.namespace, t.name, t.version) t.* from tasker.templates t
      order by t.namespace, t.name, t.version, t.revision desc limit $1) d,
  lateral json_array_elements(case json_typeof(d.definition->'steps') when 'array' then d.definition->'steps' else '[]' end) s(step)
order by 1, 2, 3, 4
