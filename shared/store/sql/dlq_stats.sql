-- The newest DLQ entries in numbers, by reason.
-- $1 entries to look at
select d.reason, count(*) as total, count(*) filter (where d.status = 'pending') as pending,
  count(*) filter (where d.status = 'manually_resolved') as manually_resolved,
  count(*) filter (where d.status = 'permanently_failed') as permanently_failed, count(*) filter (where d.status = 'cancelled') as cancelled,
  min(d.created_at) as oldest, max(d.created_at) as newest,
  (extract(epoch from avg(d.resolved_at - d.created_at)) / 60)::float8 as resolution_minutes
from (select e.reason, e.status, e.created_at, e.resolved_at from tasker.dlq_entries e order by e.created_at desc, e.dlq_entry_id desc limit $1) d
group by d.reason order by d.reason
