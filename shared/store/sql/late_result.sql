-- The result of a success that came too late to be applied.
-- $1 task · $2 step number · $3 lease
-- Returns one row if there is such a success; `result` is null if it was too large to be kept.
select a.result::text as result from tasker.attempts a
where a.task_id = $1 and a.no = $2 and a.lease = $3 and a.late
