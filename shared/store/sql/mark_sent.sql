-- Records that the queue accepted messages: sets the time of their re-send.
-- $1 tasks · $2 step numbers · $3 leases, ascending by (task, no) · $4 milliseconds until the re-send
-- Skips steps with another lease or state: a worker may have answered before this statement.
update tasker.steps s set wake_at = tasker.clock_after(k.ms)
from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[]) k(task_id, no, lease, ms)
where s.task_id = any (array[k.task_id]) and s.no = k.no and s.lease = k.lease and s.state = 'enqueued'
