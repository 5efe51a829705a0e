-- One revision of a template, by its id.
-- $1 id
select template_id, namespace, name, version, revision, definition::text as definition, sha256
from tasker.templates where template_id = $1
