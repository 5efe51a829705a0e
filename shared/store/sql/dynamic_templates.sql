-- The templates with decisions or batchables.
-- Returns (template_id).
select t.template_id from tasker.templates t
where exists (select from json_array_elements(t.definition->'steps') s where s->>'type' in ('decision', 'batchable'))
