-- Records that the queue accepted messages: sets the time of their re-send.
-- $1 tasks · $2 step numbers · $3 leases, ascending by (task, no) · $4 milliseconds until the re-send
-- Skips steps with another lease or state: a worker may have answered before this statement. Skips locked steps too, whose messages
-- a sweep sends again.
update tasker.steps s set wake_at = tasker.clock_after(k.ms)
from (
  select q.task_id, q.no, k.ms from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[]) k(task_id, no, lease, ms)
  join tasker.steps q on q.task_id = any (array[k.task_id]) and q.no = k.no and q.lease = k.lease and q.state = 'enqueued'
  for update of q skip locked) k
where s.task_id = any (array[k.task_id]) and s.no = k.no
