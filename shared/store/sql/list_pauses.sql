-- The paused namespaces and templates; of a namespace the template is ''.
-- $1 rows
select namespace, template, actor, reason, created_at from tasker.pauses order by namespace, template limit $1
