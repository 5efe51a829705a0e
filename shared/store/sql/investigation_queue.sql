-- The pending DLQ entries that should be looked at first.
-- $1 reasons · $2 the score of each, to which one point a minute is added · $3 rows · $4 entries to look at, the oldest ones
with first as materialized (
  select e.dlq_entry_id, e.task_id, e.namespace, e.template, e.original_state, e.reason, e.created_at, m.minutes,
    k.score + m.minutes as priority_score
  from (select q.* from tasker.dlq_entries q where q.status = 'pending' order by q.created_at, q.dlq_entry_id limit $4) e
    join unnest($1::text[], $2::int[]) k(reason, score) on k.reason = e.reason,
    lateral (select (extract(epoch from tasker.clock() - e.created_at) / 60)::float8 as minutes) m
  order by priority_score desc, e.created_at, e.dlq_entry_id limit $3
)
select f.*, t.state as current_state, (extract(epoch from tasker.clock() - coalesce(t.finished_at, t.created_at)) / 60)::int as state_minutes
from first f left join lateral (select q.state, q.finished_at, q.created_at from tasker.tasks q where q.task_id = f.task_id offset 0) t on true
order by f.priority_score desc, f.created_at, f.dlq_entry_id
