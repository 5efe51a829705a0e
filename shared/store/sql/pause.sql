-- Pauses a namespace or a template. A pause that is there stays as it is.
-- $1 namespace · $2 template, or '' for the whole namespace · $3 actor · $4 reason
-- Returns the pause. The update changes nothing: it lets the statement see a pause that a concurrent one inserted.
insert into tasker.pauses as p (namespace, template, actor, reason, created_at) values ($1, $2, $3, $4, tasker.clock())
on conflict (namespace, template) do update set actor = p.actor
returning namespace, template, actor, reason, created_at
