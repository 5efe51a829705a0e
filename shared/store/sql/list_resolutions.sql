-- The manual resolutions of a task's steps.
-- $1 task
-- Returns the last one per step.
select distinct on (l.no) l.no, l.actor, l.reason, l.created_at, l.metadata from tasker.audit_log l
where l.task_id = $1 and l.action = 'resolve_step' order by l.no, l.created_at desc
