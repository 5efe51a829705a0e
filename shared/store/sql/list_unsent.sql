-- A page of the dispatched steps whose messages are only in the queue of the owning process.
-- $1, $2 the last key of the previous page · $3 rows
-- Returns (task_id, no, lease), ascending. Materialized, because with outdated statistics the planner would serve `order by … limit`
-- by a scan of the primary key, past all finished steps, instead of the index steps_wake.
with live as materialized (
  select s.task_id, s.no, s.lease from tasker.steps s
  where s.wake_at = 'infinity' and s.state = 'enqueued' and (s.task_id, s.no) > ($1, $2))
select l.task_id, l.no, l.lease from live l order by l.task_id, l.no limit $3
