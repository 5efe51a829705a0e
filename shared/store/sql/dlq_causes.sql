-- The causes of the newest pending DLQ entries, the most frequent first.
-- $1 entries to look at · $2 causes
select d.fingerprint, count(*) as entries, min(d.created_at) as first, max(d.created_at) as last,
  (array_agg(d.dlq_entry_id order by d.created_at desc, d.dlq_entry_id desc))[1] as dlq_entry_id,
  (array_agg(d.task_id order by d.created_at desc, d.dlq_entry_id desc))[1] as task_id, min(d.namespace) as namespace,
  min(d.template) as template, min(d.step) as step, min(d.reason) as reason, min(d.reason_detail) as reason_detail
from (select e.fingerprint, e.created_at, e.dlq_entry_id, e.task_id, e.namespace, e.template, e.step, e.reason, e.reason_detail from tasker.dlq_entries e where e.status = 'pending' order by e.created_at desc, e.dlq_entry_id desc limit $1) d
group by d.fingerprint order by entries desc, last desc, d.fingerprint limit $2
