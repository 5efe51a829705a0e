-- The newest revision of a version of a template.
-- $1 namespace · $2 name · $3 version
select t.template_id, t.revision, t.definition::text as definition, t.created_at from tasker.templates t
where t.namespace = $1 and t.name = $2 and t.version = $3 order by t.revision desc limit 1
