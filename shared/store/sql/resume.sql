-- Ends the pause of a namespace or a template. What it held is made due by release_held, in statements of their own.
-- Waits for the calls that hold something because of it (is_paused), so that release_held sees that.
-- $1 namespace · $2 template, or '' for the whole namespace · $3 actor · $4 reason
-- Returns the pause that was ended; no row: there was none.
with ended as (
  delete from tasker.pauses where namespace = $1 and template = $2 returning *
)
insert into tasker.past_pauses (namespace, template, actor, reason, created_at, resumed_by, resume_reason, resumed_at)
select namespace, template, actor, reason, created_at, $3, $4, tasker.clock() from ended
returning namespace, template, actor, reason, created_at
