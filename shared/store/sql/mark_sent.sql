-- The queue accepted these messages: look at their steps again only when they must be sent again.
-- $1 tasks · $2 step numbers · $3 leases, ascending by (task, no) · $4 milliseconds until then
-- Only under the same lease and while nobody answered: a worker may have been faster than this statement.
update tasker.steps s set wake_at = tasker.clock_after(k.ms)
from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[]) k(task_id, no, lease, ms)
where s.task_id = any (array[k.task_id]) and s.no = k.no and s.lease = k.lease and s.state = 'enqueued'
