-- Hand-overs that only a queue inside this process knows of, a page at a time.
-- $1, $2 the last key of the page before · $3 rows
-- Answers (task_id, no, lease), ascending.
select s.task_id, s.no, s.lease from tasker.steps s
where s.wake_at = 'infinity' and s.state = 'enqueued' and (s.task_id, s.no) > ($1, $2)
order by s.task_id, s.no limit $3
