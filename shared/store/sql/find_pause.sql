-- A pause.
-- $1 namespace · $2 template, or '' for the whole namespace
select namespace, template, actor, reason, created_at from tasker.pauses where namespace = $1 and template = $2
