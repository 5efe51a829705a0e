-- Dispatched steps that only a queue inside this process knows of, a page at a time.
-- $1, $2 the last key of the page before · $3 rows
-- Answers (task_id, no, lease), ascending. Materialized, because the order and the bound would tempt a planner with young
-- statistics to walk the key, past every finished step, instead of the index of the live ones.
with live as materialized (
  select s.task_id, s.no, s.lease from tasker.steps s
  where s.wake_at = 'infinity' and s.state = 'enqueued' and (s.task_id, s.no) > ($1, $2))
select l.task_id, l.no, l.lease from live l order by l.task_id, l.no limit $3
